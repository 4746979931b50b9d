"""What the tests of this room share."""

import io
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def make_hostile_folder():
    return runpy.run_path(str(Path(__file__).with_name("hostile.py")))["make_hostile_folder"]


@pytest.fixture(scope="session")
def encode():
    """(picture or array, format, options of Pillow) -> bytes of a file."""

    def encode_picture(picture, kind, **options):
        buffer = io.BytesIO()
        (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode_picture


@pytest.fixture(scope="session")
def corners():
    """A 32 x 48 picture (H x W) whose four quarters are red, green, blue and yellow: no turn or flip looks like another."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24] = (220, 30, 30)
    picture[:16, 24:] = (30, 200, 30)
    picture[16:, :24] = (30, 30, 220)
    picture[16:, 24:] = (230, 230, 20)
    return picture


@pytest.fixture(scope="session")
def scene():
    """A 120 x 160 picture with texture."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC))

"""The commands of experiments/reliability, imported as they import one another."""

import importlib
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "experiments" / "reliability"


@pytest.fixture(scope="session")
def script():
    """Name of a file there -> its module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module
        for name in [name for name, module in sys.modules.items() if str(SCRIPTS) in (getattr(module, "__file__", None) or "")]:
            del sys.modules[name]


@pytest.fixture
def encode_scene():
    """(format, options of Pillow) -> bytes of a picture, 64 x 48."""
    import io

    import numpy as np
    from PIL import Image

    def encode(kind, **options):
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode

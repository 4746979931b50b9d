"""A dozen drawn photos, and trainings so small that a step takes milliseconds."""

import cv2
import numpy as np
import pytest
from lightning.pytorch import Trainer

from matcher.training.descriptor import DescriptorTraining
from matcher.training.photo_pairs import PhotoPairs
from matcher.training.schedule import Growth
from matcher.training.settings import LossSettings, OptimiserSettings


def draw_photo(number):
    """A number -> a picture (72, 96, 3) of blobs that no other number gives."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (96, 72), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A folder of drawn photos with the tables of their sources."""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    folder.mkdir()
    for number in range(16):
        cv2.imwrite(str(folder / f"{number:02d}.png"), draw_photo(number))
    rows = "".join(f"{number:02d}.png,photo,{'a/b' if number % 2 else 'c/d'}\n" for number in range(16))
    (folder / "train.csv").write_text("file,kind,source\n" + rows)
    (folder / "README.md").write_text("| source | images | licence |\n|---|---|---|\n| a/b | 8 | MIT |\n| c/d | 8 | CC0-1.0 |\n")
    return folder


@pytest.fixture
def make_module():
    """Changes of the arguments -> a tiny training module."""

    def make(**changes):
        arguments = {"backbone": "timm:test_efficientnet", "size": 32, "dim": 8, "optimiser": OptimiserSettings(warm_up=2)}
        return DescriptorTraining(**{**arguments, "loss": LossSettings(memory=6, mixed=0.5), **changes})

    return make


@pytest.fixture
def make_data(drawn):
    """Changes of the arguments -> a tiny data module."""

    def make(**changes):
        arguments = {"batch_size": 4, "others": 3, "bank_side": 40, "held_out": 0.4, "held_out_batches": 1}
        return PhotoPairs(str(drawn), **{**arguments, "hardness": Growth(0.0, 0.5), **changes})

    return make


@pytest.fixture
def make_trainer(tmp_path):
    """Steps and callbacks -> a trainer on the CPU that writes nothing of its own."""

    def make(steps, *callbacks, **changes):
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        arguments = {"accelerator": "cpu", "max_steps": steps, "max_epochs": -1, "num_sanity_val_steps": 0, "limit_val_batches": 0}
        return Trainer(default_root_dir=tmp_path, callbacks=list(callbacks), **{**quiet, **arguments, **changes})

    return make

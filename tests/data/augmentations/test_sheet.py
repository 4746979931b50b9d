"""The picture that shows a recipe."""

import numpy as np
import pytest
from PIL import Image

from matcher.data.augmentations.sheet import COLUMNS, SIDE, contact_sheet_verb
from matcher.errors import MatcherError, UsageError


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_the_sheet_is_written(photos, tmp_path):
    path = contact_sheet_verb(photos, tmp_path / "new" / "sheet.png", recipe="overlay", rows=1, seed=1)
    with Image.open(path) as sheet:
        assert sheet.size == (COLUMNS * SIDE, 2 * SIDE)


def test_a_place_that_cannot_be_written(photos, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MatcherError, match="cannot make the folder"):
        contact_sheet_verb(photos, tmp_path / "file" / "sheet.png", rows=1)
    with pytest.raises(UsageError, match=r"must end in \.png"):
        contact_sheet_verb(photos, photos / "0.jpg", rows=1)

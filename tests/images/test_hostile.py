"""The forty hostile files, read and decoded one by one."""

import os
from collections import Counter

import pytest

from matcher.errors import ImageError
from matcher.images.decode import load
from matcher.images.listing import make_ids
from matcher.images.table import read_images
from matcher.settings import ImageSettings


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken tags
@pytest.mark.parametrize("seed", [0, 1])
def test_every_hostile_file_gets_its_code_and_no_good_one_is_lost(tmp_path, make_hostile_folder, seed):
    expected = make_hostile_folder(tmp_path / "pictures", seed)
    (tmp_path / "pictures" / "loop").symlink_to(tmp_path / "pictures")
    (tmp_path / "pictures" / "README.txt").write_text("not a picture")
    assert len(expected) == 40
    images, errors = read_images(tmp_path / "pictures", "queries")
    found = dict(zip(errors.id.tolist(), errors.code.tolist(), strict=True))
    sentences = errors.message.tolist()
    for name, path in zip(images.id.tolist(), images.path.tolist(), strict=True):
        path.encode()
        try:
            assert load(path, settings=ImageSettings()).shape in [(240, 320, 3)]
            found[name] = "good"
        except ImageError as error:
            found[name] = error.code
            sentences.append(str(error))
    assert found == dict(zip(make_ids(list(expected)), expected.values(), strict=True))
    assert all(s.isprintable() and len(s) > 20 for s in sentences)
    assert Counter(found.values())["good"] == 7


def test_a_folder_made_twice_from_one_seed_is_the_same(tmp_path, make_hostile_folder):
    make_hostile_folder(tmp_path / "a", 5)
    make_hostile_folder(tmp_path / "b", 5)
    for name in os.listdir(tmp_path / "a"):
        if (tmp_path / "a" / name).is_file() and "huge" not in name:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

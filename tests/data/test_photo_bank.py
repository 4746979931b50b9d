"""A folder of photos in memory: squares, groups, weights, the cache, and bad files."""

import csv
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from matcher.data import photo_bank
from matcher.data.photo_bank import LOOK_ALIKES, PhotoBank, count_photos
from matcher.errors import MatcherError, UsageError

ROWS = [("photo", "alps", 8), ("photo", "sea", 2), ("logo", "brands", 6), ("screenshot", "alps", 1)]


def draw(path, number, size=(30, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), (40 + 10 * number, 100, 200 - 10 * number), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """17 pictures with a CSV beside them."""
    place, rows = tmp_path / "photos", []
    for kind, source, count in ROWS:
        for _ in range(count):
            draw(place / f"{len(rows):02d}.png", len(rows))
            rows.append({"file": f"{len(rows):02d}.png", "kind": kind, "source": source})
    with (place / "train.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file", "kind", "source"])
        table.writeheader()
        table.writerows(rows)
    return place


def test_photos_become_squares(folder):
    bank = PhotoBank.load(folder, side=16, cache=None)
    assert bank.pixels.shape == (17, 3, 16, 16) and bank.pixels.dtype == torch.uint8
    assert bank.pixels[3, :, 8, 8].tolist() == [70, 100, 170]
    assert torch.allclose(bank.aspect, torch.tensor(1.5))
    assert bank.ids[:2] == ("00.png", "01.png") and len(bank) == 17 and not len(bank.errors)


def test_sources_are_damped_and_look_alikes_are_few(folder):
    bank = PhotoBank.load(folder, side=16, cache=None)
    assert bank.groups == ("alps", "brands", "sea")
    assert [bank.groups[g] for g in bank.group.tolist()] == ["alps"] * 8 + ["sea"] * 2 + ["brands"] * 6 + ["alps"]
    weight = bank.weight
    assert torch.isclose(weight.sum(), torch.tensor(1.0))
    assert torch.isclose(weight[10:].sum(), torch.tensor(LOOK_ALIKES)) and LOOK_ALIKES < 0.15
    assert torch.isclose(weight[:8].sum() / weight[8:10].sum(), torch.tensor(2.0))  # 4 times as many, sqrt(4) times as often
    assert weight[8] > weight[0]


def test_without_a_csv_folders_are_groups(tmp_path):
    for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        draw(tmp_path / name, number)
    bank = PhotoBank.load(tmp_path, side=8, cache=None)
    assert bank.groups == ("a", "b") and bank.group.tolist() == [0, 0, 1] and bank.ids == ("a/1.png", "a/2.png", "b/1.png")


def test_few_look_alikes_keep_their_share():
    weight = photo_bank.weigh(["photo"] * 99 + ["logo"], ["a"] * 99 + ["b"])
    assert weight[-1] == pytest.approx(1 / (99**0.5 + 1), rel=1e-4)
    assert photo_bank.weigh(["logo"] * 3, ["b"] * 3).sum() == pytest.approx(1)  # nothing but logos: nothing to hold them down with


def test_tar_files_are_read_in_place(folder, tmp_path):
    tars = tmp_path / "tars"
    tars.mkdir()
    for shard in range(2):
        with tarfile.open(tars / f"train-{shard}.tar", "w") as tar:
            for path in sorted(folder.glob("*.png"))[shard::2]:
                tar.add(path, arcname=path.name)
            tar.add(folder / "train.csv", arcname="readme.txt")
    (tars / "train.csv").write_bytes((folder / "train.csv").read_bytes())
    packed, loose = (PhotoBank.load(place, side=16, cache=None) for place in (tars, folder))
    assert sorted(packed.ids) == sorted(loose.ids) and packed.groups == loose.groups
    assert count_photos(tars) == count_photos(folder) == len(loose) == 17
    order = [loose.ids.index(name) for name in packed.ids]
    assert torch.equal(packed.pixels, loose.pixels[order]) and torch.equal(packed.group, loose.group[order])


def test_the_cache_is_used_again_and_renewed(folder, tmp_path, monkeypatch):
    first = PhotoBank.load(folder, side=16, cache=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(photo_bank, "decode_all", lambda *_: pytest.fail("decoded again"))
        second = PhotoBank.load(folder, side=16, cache=tmp_path / "cache")
    assert torch.equal(first.pixels, second.pixels) and first.ids == second.ids and torch.equal(first.weight, second.weight)
    draw(folder / "99.png", 3)
    assert len(PhotoBank.load(folder, side=16, cache=tmp_path / "cache")) == 18
    assert PhotoBank.load(folder, side=24, cache=tmp_path / "cache").pixels.shape[-1] == 24


def test_the_cache_is_renewed_for_pictures_behind_a_link_and_for_no_other_file(tmp_path):
    draw(tmp_path / "real" / "0.png", 0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "photos" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for count in (1, 2):
        draw(tmp_path / "real" / f"{count - 1}.png", count)
        assert len(PhotoBank.load(tmp_path / "photos", side=16, cache=tmp_path / "cache")) == count
    kept = sorted((tmp_path / "cache").iterdir())
    (tmp_path / "photos" / "README.md").write_text("words")
    PhotoBank.load(tmp_path / "photos", side=16, cache=tmp_path / "cache")
    assert sorted((tmp_path / "cache").iterdir()) == kept


def test_a_digest_names_ids_and_pixels(folder):
    bank = PhotoBank.load(folder, side=16, cache=None)
    assert bank.digest == PhotoBank.load(folder, side=16, cache=None).digest
    others = [PhotoBank.load(folder, side=32, cache=None), replace(bank, pixels=255 - bank.pixels), bank.take(torch.arange(16))]
    assert len({bank.digest, *(other.digest for other in others)}) == 4


def test_writing_into_the_bank_leaves_the_cache_alone(folder, tmp_path):
    first = PhotoBank.load(folder, side=16, cache=tmp_path / "cache")
    first.pixels.zero_()
    assert PhotoBank.load(folder, side=16, cache=tmp_path / "cache").pixels.any()


@pytest.mark.parametrize("cached", [False, True])
def test_bad_pictures_are_skipped_and_reported(folder, tmp_path, caplog, cached):
    (folder / "05b.png").write_bytes((folder / "05.png").read_bytes()[:60])
    (folder / "06b.jpg").write_bytes(b"")
    for _ in range(1 + cached):
        caplog.clear()
        bank = PhotoBank.load(folder, side=16, cache=tmp_path / "cache" if cached else None)
        assert len(bank) == 17 and "05b.png" not in bank.ids
        assert bank.errors.id.tolist() == ["05b.png", "06b.jpg"] and bank.errors.code.tolist()[1] == "empty"
        assert f"2 pictures of {folder} are left out, the first: " in caplog.text and "once they can be" not in caplog.text


def test_pictures_that_may_be_there_the_next_time_are_told_with_what_to_do(folder, tmp_path, caplog):
    (folder / "99.png").symlink_to(tmp_path / "nowhere.png")
    PhotoBank.load(folder, side=16, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("*.json")
    assert f"a link that leads nowhere; once they can be, remove {kept}" in caplog.text


def test_split_is_disjoint_whole_and_seeded(folder):
    bank = PhotoBank.load(folder, side=16, cache=None)
    train, held_out = bank.split(0.25, seed=3)
    assert len(held_out) == 4 and sorted((*train.ids, *held_out.ids)) == list(bank.ids)
    assert torch.isclose(train.weight.sum(), torch.tensor(1.0)) and train.groups == bank.groups
    assert train.pixels.shape[0] == train.group.shape[0] == train.aspect.shape[0] == 13
    assert bank.split(0.25, seed=3)[1].ids == held_out.ids != bank.split(0.25, seed=4)[1].ids
    row = bank.ids.index(held_out.ids[2])
    assert torch.equal(held_out.pixels[2], bank.pixels[row])


def test_what_cannot_be_is_said(folder, tmp_path):
    with pytest.raises(MatcherError, match="no such folder"):
        PhotoBank.load(tmp_path / "none", side=16, cache=None)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MatcherError, match="no picture"):
        PhotoBank.load(empty, side=16, cache=None)
    with pytest.raises(UsageError, match="side"):
        PhotoBank.load(folder, side=2, cache=None)
    with pytest.raises(UsageError, match="one side empty"):
        PhotoBank.load(folder, side=16, cache=None).split(0.001, seed=0)


def test_to_a_device(folder):
    assert PhotoBank.load(folder, side=16, cache=None).to("meta").pixels.device.type == "meta"


def test_a_table_beside_the_photos_that_is_no_text_is_passed_over(tmp_path, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.full((9, 9, 3), 70, dtype=np.uint8)).save(folder / "1.png")
    (tmp_path / "other.csv").write_bytes(b"PAR1\xae\xff")
    assert len(PhotoBank.load(folder, side=8, cache=None)) == 1
    assert "other.csv is not read for the sources of the photos" in caplog.text

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from matcher.background import Background, background_print, keys_of, load_background, make_background, of_pictures
from matcher.describe import load_model, made_by
from matcher.errors import ImageError, MatcherError, StaleStageError, UsageError
from matcher.features import describe_picture
from matcher.settings import DescriptorSettings, ImageSettings, Strategy
from matcher.settings.post import PostSettings, SubtractSettings
from matcher.types import Descriptors, Pictures

SETTINGS = DescriptorSettings(backbone="timm:test_vit", weights=False, size=32)
STRATEGY = Strategy(descriptor=SETTINGS)


def unit(count, seed=0, dim=8):
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def key(text):
    return hashlib.sha256(text.encode()).hexdigest()


def background(count=30, **card):
    names = [f"b{n}" for n in range(count)]
    return of_pictures(unit(count, 1), [key(name) for name in names], [key(name + " pixels") for name in names], card=card)


def pictures(ids, file_keys, pixel_keys):
    numbers = np.full(len(ids), 10)
    return Pictures(
        id=ids,
        path=ids,
        width=numbers,
        height=numbers,
        file_key=file_keys,
        pixel_key=pixel_keys,
        thumbnail=np.zeros((len(ids), 768)),
        keypoints=numbers,
    )


STRANGERS = pictures(["r"], [key("r")], [key("r pixels")])


def views(rows):
    count = len(rows)
    return Descriptors(
        image_id=[f"q{n}" for n in range(count)],
        frame=np.tile(np.eye(3), (count, 1, 1)),
        kind=["whole"] * count,
        confidence=[1] * count,
        rows=rows,
    )


@pytest.mark.parametrize(("weight", "nearest"), [(1.0, 3), (2.0, 10), (0.5, 1), (0.0, 30)])
def test_the_penalty_agrees_with_a_slow_mean(weight, nearest):
    some, rows = background(), unit(7)
    for row, found in zip(rows, some.penalty(rows, weight=weight, nearest=nearest), strict=True):
        similar = sorted((sum(a * b for a, b in zip(row.tolist(), other.tolist(), strict=True)) for other in some.rows), reverse=True)
        assert found == pytest.approx(weight * sum(similar[:nearest]) / nearest, abs=1e-6)


def test_a_penalty_is_its_own_views_alone(monkeypatch):
    some, rows = background(), unit(9)
    together = some.penalty(rows, weight=1.0, nearest=3)
    monkeypatch.setattr("matcher.background.CHUNK", 2)
    assert np.allclose(some.penalty(rows, weight=1.0, nearest=3), together, atol=1e-6)
    assert np.allclose(some.penalty(rows[[4]], weight=1.0, nearest=3), together[4], atol=1e-6)
    assert some.penalty(rows[:0], weight=1.0, nearest=3).shape == (0,)


@pytest.mark.parametrize("nearest", [0, 31])
def test_more_neighbours_than_pictures_are_refused(nearest):
    with pytest.raises(UsageError, match=f"between 1 and the 30 background pictures, not {nearest}"):
        background().penalty(unit(2), weight=1.0, nearest=nearest)


def test_the_file_holds_it_all_and_names_its_descriptor(tmp_path):
    some = background(descriptor="a model", photos="mine")
    some.save(tmp_path / "a.safetensors")
    some.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back = Background.load(tmp_path / "a.safetensors", made_by="a model")
    assert np.allclose(back.rows, some.rows, atol=1e-3) and back.rows.dtype == np.float32
    assert np.array_equal(back.keys, some.keys) and back.card == some.card
    with pytest.raises(StaleStageError, match="by a model, now another"):
        Background.load(tmp_path / "a.safetensors", made_by="another")


def test_other_files_are_no_background(tmp_path):
    path = tmp_path / "other.safetensors"
    for write in (
        lambda: path.write_bytes(b"no tensors at all"),
        lambda: save_file({"rows": unit(3)}, path),
        lambda: save_file({"rows": unit(3)}, path, {"matcher": "no json"}),
        lambda: save_file({"rows": unit(3)}, path, {"matcher": json.dumps({"class": "Background", "descriptor": "m"})}),
        lambda: save_file({"rows": unit(3), "keys": unit(3)}, path, {"matcher": json.dumps({"class": "Descriptor", "descriptor": "m"})}),
    ):
        write()
        with pytest.raises(MatcherError, match=r"other\.safetensors is no background"):
            Background.load(path, made_by="m")
    with pytest.raises(MatcherError, match="cannot read"):
        Background.load(tmp_path / "absent.safetensors", made_by="m")


@pytest.mark.parametrize(("file_key", "pixel_key"), [("b7", "x"), ("x", "b7 pixels"), ("b0", "b29 pixels")])
def test_references_among_the_background_are_refused(file_key, pixel_key):
    some = background()
    some.refuse(STRANGERS, "reference")
    with pytest.raises(MatcherError, match="the query guilty is one of the background's pictures"):
        some.refuse(pictures(["r", "guilty"], [key("r"), key(file_key)], [key("s"), key(pixel_key)]), "query")


def test_the_nearest_may_be_left_out_of_the_mean():
    some, rows = background(), unit(3)
    similarity = np.sort(rows @ some.rows.T, axis=1)[:, ::-1]
    assert np.allclose(some.penalty(rows, weight=2.0, nearest=10, skip=9), 2 * similarity[:, 9], atol=1e-5)  # the challenge's baseline
    assert np.allclose(some.penalty(rows, weight=1.0, nearest=4, skip=1), similarity[:, 1:4].mean(axis=1), atol=1e-5)


def test_without_a_background_nothing_is_taken_off():
    assert load_background(SETTINGS, reference=STRANGERS) is None and background_print(SETTINGS) == {}


def test_settings_find_weigh_and_name_the_file(tmp_path):
    some = background(descriptor=made_by(SETTINGS))
    some.save(tmp_path / "mine.safetensors")
    settings = replace(SETTINGS, background=str(tmp_path / "mine.safetensors"), background_weight=0.5, background_nearest=4)
    found = load_background(settings, query=STRANGERS, reference=STRANGERS)
    assert np.allclose(found.rows, some.rows, atol=1e-3) and found.card == some.card
    before = background_print(settings)
    assert before["weight"] == 0.5 and before["nearest"] == 4
    background(20, descriptor=made_by(SETTINGS)).save(tmp_path / "mine.safetensors")
    assert background_print(settings)["digest"] != before["digest"]
    with pytest.raises(StaleStageError, match="was made by another descriptor"):
        load_background(replace(settings, seed=1), reference=STRANGERS)
    with pytest.raises(
        MatcherError, match=r"background 'absent' is neither a file that ends in \.safetensors nor one of checkpoints/background"
    ):
        background_print(replace(SETTINGS, background="absent"))


@pytest.mark.parametrize(
    "changed",
    [{"background_weight": 0.5}, {"background_nearest": 4}, {"background_skip": 1}, {"post": PostSettings(subtract=SubtractSettings())}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_of_the_normalisation_is_in_what_names_it(tmp_path, changed):
    background().save(tmp_path / "b.safetensors")
    settings = replace(SETTINGS, background=str(tmp_path / "b.safetensors"))
    assert background_print(settings) == background_print(replace(settings)) != background_print(replace(settings, **changed))


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for n in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{n}.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return tmp_path / "photos"


def test_make_background_of_photographs(photos, tmp_path):
    path = make_background(photos, tmp_path / "checkpoints" / "one.safetensors", strategy=STRATEGY)
    made = Background.load(path, made_by=made_by(SETTINGS))
    pixels = [np.asarray(Image.open(photos / f"{n}.png").resize((32, 32), Image.Resampling.BOX)) for n in range(6)]
    assert made.rows.shape == (6, load_model(SETTINGS).dim) and made.card["pictures"] == 6 and made.card["photos"] == "photos"
    alike = made.rows @ load_model(SETTINGS).describe(np.stack(pixels)).T
    assert (np.diag(alike) > 0.9).all()  # another filter shrank these
    row, _ = describe_picture(str(photos / "3.png"), STRATEGY.reference_keypoints, image_settings=ImageSettings())
    with pytest.raises(MatcherError, match="the reference three is one"):
        made.refuse(pictures(["three"], ["00" * 32], [row["pixel_key"]]), "reference")
    again = make_background(photos, tmp_path / "two.safetensors", strategy=STRATEGY, workers=3)
    assert again.read_bytes() == path.read_bytes()


def test_make_background_draws_by_seed(photos, tmp_path):
    drawn = [
        make_background(photos, tmp_path / f"{n}.safetensors", strategy=STRATEGY, pictures=3, seed=seed).read_bytes()
        for n, seed in enumerate((1, 1, 2))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_make_background_needs_a_descriptor_and_pictures(photos, tmp_path):
    with pytest.raises(UsageError, match=r"strategy\.descriptor"):
        make_background(photos, tmp_path / "out.safetensors", strategy=Strategy())
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        make_background(photos, tmp_path / "out", strategy=STRATEGY)
    with pytest.raises(MatcherError, match="holds no picture that can be used"):
        make_background(photos / "bad.png", tmp_path / "out.safetensors", strategy=STRATEGY)
    with pytest.raises(ImageError):
        keys_of(str(photos / "bad.png"), strategy=STRATEGY)
    assert not (tmp_path / "out.safetensors").exists()

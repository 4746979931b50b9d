"""Small files that would take much memory, much time, other files, or run code."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matcher.cli.parser import parse
from matcher.errors import ImageError, MatcherError, UsageError
from matcher.fusion import Fusion, read_fusion, write_fusion
from matcher.images.decode import decode, load
from matcher.images.table import read_images
from matcher.metrics.predicted import ScoredPairs
from matcher.settings import ImageSettings
from matcher.storage.hdf5 import read_vectors
from matcher.storage.stage import Stage
from matcher.storage.tables import read_table
from matcher.types import Errors

PLACES = ["--queries", "q", "--references", "r", "--output", "o"]
LAUGHS = "strategy:\n  a0: &a0 {x: 1}\n" + "".join(f"  a{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "repeat more than"),
        ("strategy: " + "[" * 5000, "nests more than 50"),
        ("strategy: &a {scorers: *a}", "contains itself"),
        ("strategy: {images: {max_pixels: 2020-99-99}}", "month must be"),
        ("strategy: {images: {max_pixels: " + "9" * 5000 + "}}", "digits"),
        ("#" * 1_000_001, "more than the 1,000,000"),
    ],
)
def test_a_config_may_not_take_all_time(tmp_path, text, why):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=rf"c\.yaml is no YAML that can be read: .*{why}"):
        parse("run", ["--config", str(tmp_path / "c.yaml"), *PLACES])


def test_a_long_cell_in_a_csv(tmp_path):
    rows = "".join(f"{n},p,\n" for n in range(4000))
    (tmp_path / "t.csv").write_text(f"id,path,note\na,p,{'x' * 100_000}\n{rows}")
    with pytest.raises(MatcherError, match="the column note would take 1,600,400,000 bytes"):
        read_images(tmp_path / "t.csv", "queries")
    (tmp_path / "p.csv").write_text(f"query_id,reference_id,score\n{'x' * 100_000},p,1\n" + "".join(f"{n},p,1\n" for n in range(4000)))
    with pytest.raises(MatcherError, match="the column query_id would take"):
        ScoredPairs.read(tmp_path / "p.csv")


def test_a_long_cell_repeated_in_a_parquet_table(tmp_path):
    notes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), pa.array(["x" * 1_000_000]))
    ids = pa.array([str(n) for n in range(2000)])
    pq.write_table(pa.table({"id": ids, "path": ids, "note": notes}), tmp_path / "t.parquet", store_schema=False)
    assert (tmp_path / "t.parquet").stat().st_size < 200_000
    for read in (lambda file: read_images(file, "queries"), read_table):
        with pytest.raises(MatcherError, match="its rows would take 2,0"):
            read(tmp_path / "t.parquet")


def test_numbers_that_are_not_in_the_hdf5_file(tmp_path):
    import h5py

    (tmp_path / "secret").write_text("secret of another file")
    for name, options in (
        ("fill", {"shape": (10**9,), "chunks": (1000,)}),
        ("outside", {"shape": (2,), "external": [(str(tmp_path / "secret"), 0, 20)]}),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for side in ("query", "reference"):
                file.create_dataset(side, data=np.ones((2, 4), "f4"))
                file.create_dataset(f"{side}_ids", dtype="S10", **options)
    with pytest.raises(MatcherError, match="query_ids would take 10,000,000,000 bytes"):
        read_vectors(tmp_path / "fill.h5")
    with pytest.raises(MatcherError, match="query_ids points into another file"):
        read_vectors(tmp_path / "outside.h5")


def test_a_jpeg_of_very_many_scans(encode_scene):
    data = encode_scene("JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    assert decode(data, settings=ImageSettings()).shape == (48, 64, 3)
    with pytest.raises(ImageError, match="scans") as refused:
        decode(data[:-2] + 200 * scan + b"\xff\xd9", settings=ImageSettings())
    assert refused.value.code == "unsupported"


@pytest.mark.parametrize("content", ["[" * 50_000, '{"items": 1}', "[]", "null"])
def test_a_manifest_of_another_kind(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(MatcherError, match="damaged or not a stage's"):
        Stage.load(tmp_path, Errors)


@pytest.mark.parametrize("shards", [[[0, 2], [3, 4]], [[0, 3], [2, 4]], [[0, 2]], [[0, 4], [4, 4]], [["0", 4]], 5])
def test_shards_that_lose_an_item_are_refused(tmp_path, shards):
    Stage.open(tmp_path, Errors, config={}, inputs={}, items=4, items_per_shard=2)
    told = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**told, "shards": shards}))
    with pytest.raises(MatcherError, match="damaged or not a stage's"):
        Stage.open(tmp_path, Errors, config={}, inputs={}, items=4, items_per_shard=2)


def test_a_changed_digit_of_a_fusion_is_refused(tmp_path):
    path = tmp_path / "f.json"
    write_fusion(path, Fusion({"pair": 1.25}, 0.5, 1.0, 0.0, {}))
    assert read_fusion(path).weights == {"pair": 1.25}
    path.write_text(path.read_text().replace("1.25", "1.35"))
    with pytest.raises(MatcherError, match="not what was written"):
        read_fusion(path)
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "seal"}))
    assert read_fusion(path).weights == {"pair": 1.35}  # changed on purpose


def test_pictures_stay_within_their_root(tmp_path, encode_scene):
    home = tmp_path / "home"
    home.mkdir()
    for place in (home / "in.png", tmp_path / "out.png", tmp_path / "home2.png"):
        place.write_bytes(encode_scene("PNG"))
    (home / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "back.png").symlink_to(home / "in.png")
    settings = ImageSettings(root=str(home))
    for place in (home / "in.png", home / ".." / "home" / "in.png", tmp_path / "back.png"):
        assert load(place, settings=settings).shape == (48, 64, 3)
    for place in (home / "link.png", home / ".." / "out.png", tmp_path / "home2.png", f"file://{tmp_path}/out.png", "/etc/passwd"):
        with pytest.raises(ImageError, match=r"outside of strategy\.images\.root") as refused:
            load(place, settings=settings)
        assert refused.value.code == "outside"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "said",
    [
        "{class_path: evilmod.Bad}",
        "{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {setup: os.system}}",
    ],
)
def test_a_config_names_no_class_of_a_stranger(tmp_path, command, monkeypatch, said):
    (tmp_path / "evilmod.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom lightning.pytorch import Callback\nclass Bad(Callback): pass\n"
    )
    (tmp_path / "c.yaml").write_text(f"trainer: {{callbacks: [{said}]}}")
    monkeypatch.syspath_prepend(tmp_path)
    words = [
        "fit",
        "--config",
        "descriptor/smoke.yaml",
        "--config",
        tmp_path / "c.yaml",
        "--data.photos",
        tmp_path,
        "--output",
        tmp_path / "o",
    ]
    code, _, err = command(*words)
    assert code == 2 and "may not be named" in err and "MATCHER_ALLOW=" in err and not (tmp_path / "ran").exists()
    assert "evilmod" not in sys.modules


@pytest.mark.filterwarnings("ignore")
def test_a_changed_byte_of_a_training_is_refused(tmp_path, command):
    import torch

    from matcher.training.last_checkpoint import check_whole

    path, weights = tmp_path / "last.ckpt", torch.arange(500)
    torch.save({"state_dict": {"weights": weights}, "global_step": 1, "pytorch-lightning_version": "2"}, path)
    check_whole(path)
    data, same = path.read_bytes(), 0
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            check_whole(path)
            assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["weights"], weights)
            same += 1
        except (MatcherError, RuntimeError) as error:
            assert "last.ckpt is damaged" in str(error) or "failed reading zip archive" in str(error)  # torch's own words
    assert same < len(data) // 14  # in gaps between the numbers
    words = ["validate", "--config", "descriptor/smoke.yaml", "--data.photos", tmp_path, "--output", tmp_path]
    path.write_bytes(data[:-1000])
    code, _, err = command(*words)
    assert code == 1 and "last.ckpt is damaged" in err


def test_a_changed_byte_of_a_background_is_refused(tmp_path):
    from matcher.background import Background

    path = tmp_path / "b.safetensors"
    Background(np.eye(4, dtype=np.float32), np.zeros((8, 16), np.uint8), {"descriptor": "d"}).save(path)
    assert Background.load(path, made_by="d").card["descriptor"] == "d"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(MatcherError, match="checksum differs"):
        Background.load(path, made_by="d")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"size": 16_000}, "no model here looks at more than 2048"),
        ({"dim": 10**9}, "far more than its files hold|can't allocate memory"),
        ({"dim": 4 * 10**6}, "far more than its files hold"),
        ({"name": "timm:hf-hub:a/b"}, "not timm:NAME"),
        ({"config": {"checkpoint_path": "evil.pth"}}, "may not ask for"),
        ({"config": {"auto_map": {"AutoModel": "evil.Model"}}}, "may not ask for"),
        ({"pooling": 5}, "pooling"),
    ],
)
def test_a_header_that_asks_for_too_much(tmp_path, change, why):
    from matcher.models.checkpoint import load, save
    from matcher.models.descriptor import Descriptor

    path = tmp_path / "m.safetensors"
    save(path, Descriptor.build("timm:test_vit", size=160, dim=8), {})
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:end])
    told = json.loads(head["__metadata__"]["matcher"])
    told["arguments"] |= change
    head["__metadata__"]["matcher"] = json.dumps(told)
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    with pytest.raises(MatcherError, match=why):
        load(path)

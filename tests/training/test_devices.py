"""Two processes train and predict what one does. They are forks of one other process: that is quicker than `ddp`, which starts anew."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import matcher
from matcher.errors import UsageError
from matcher.stages import scoring
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.training import photo_pairs
from matcher.training.devices import collect, gather, hand_out, own_part, patient_group
from matcher.training.objectives import BarlowTwins
from matcher.training.overlay_scenes import OverlayScenes
from matcher.training.pair_groups import PairGroups
from matcher.training.settings import LossSettings
from matcher.types import Descriptors, Errors, PairScores

SCRIPT = """
import sys
import torch
from matcher.cli.main import main
from matcher.data.augmentations.drawn import drawn_on
from matcher.stages import scoring
from matcher.training import photo_pairs

drawn_on(torch.device("cpu"))  # once, before the forks
photo_pairs.PICTURES_A_BATCH = 5
scoring.SHARD = 8
several = ["--trainer.devices", "2", "--trainer.strategy", "ddp_fork"]
for words in " ".join(sys.argv[1:]).split(" then "):
    if code := main([*words.split(" "), *several]):
        sys.exit(code)
"""
STEPS = ["--trainer.max_steps", "3", "--trainer.val_check_interval", "3"]
DESCRIPTOR = ["--config", "descriptor/smoke.yaml", "--model.loss.memory", "6", "--model.loss.mixed", "0.5", *STEPS]
PAIRS = ["--config", "token_fusion/smoke.yaml", "--model.backbone", "timm:test_vit", "--model.depth", "2", "--model.size", "32", *STEPS]
PAIRS += ["--trainer.limit_val_batches", "0"]
MEASURED = ["--trainer.limit_val_batches", "1"]  # the last one counts
LISTED = [("broken" if row in (5, 13) else f"{row % 16:02d}", f"{row // 3:02d}") for row in range(30)]  # shards 0 and 1 have a bad picture


@pytest.fixture(scope="module")
def by_two(drawn, tmp_path_factory):
    """Folders of a descriptor and of a pair model that two processes trained, pictures that they described and judged, what they told."""
    folder = tmp_path_factory.mktemp("two")
    pictures = folder / "pictures"
    shutil.copytree(drawn, pictures)
    (pictures / "broken.png").write_bytes(b"no picture")
    (folder / "pairs.csv").write_text("query_id,reference_id\n" + "".join(f"{query},{reference}\n" for query, reference in LISTED))
    rooms = [folder / "descriptor", folder / "pairs"]
    data = ["--data.photos", str(drawn), "--data.cache", str(folder / "cache")]
    lines = [
        ["fit", *DESCRIPTOR, *data, "--output", str(rooms[0])],
        ["predict", *DESCRIPTOR, *data, "--output", str(rooms[0]), "--data.pictures", str(pictures)],
        ["fit", *PAIRS, *data, "--output", str(rooms[1])],
        ["predict", *PAIRS, *data, "--output", str(rooms[1]), *sides(pictures)],
        ["validate", *DESCRIPTOR, *data, "--output", str(rooms[0])],
        *([verb, *PAIRS, *data, "--output", str(rooms[1]), *MEASURED] for verb in ("validate", "test")),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(matcher.__file__).parents[1])}
    words = " then ".join(" ".join(line) for line in lines).split(" ")
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return rooms, pictures, done.stderr


def sides(pictures):
    """Words that name the list of pairs and its pictures."""
    return ["--data.pairs", str(pictures.parent / "pairs.csv"), "--data.queries", str(pictures), "--data.references", str(pictures)]


def losses(folder):
    (curves,) = folder.glob("curves/*/metrics.csv")
    return [float(row["train_loss"]) for row in csv.DictReader(curves.open()) if row["train_loss"]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("number", "words"), [(0, DESCRIPTOR), (1, PAIRS)])
def test_two_processes_learn_what_one_does(by_two, command, drawn, tmp_path, number, words):
    code, _, err = command("fit", *words, "--data.photos", drawn, "--output", tmp_path)
    assert code == 0, err
    found = losses(by_two[0][number])
    assert len(found) == 3 and len(set(found)) == 3 and found == pytest.approx(losses(tmp_path), rel=1e-4, abs=1e-5)
    states = [torch.load(folder / "last.ckpt", weights_only=False)["state_dict"] for folder in (by_two[0][number], tmp_path)]
    spreads = [name for name in states[1] if name.startswith("model.") and name.endswith("running_var")]
    assert all(torch.allclose(states[0][name], states[1][name], rtol=1e-2) for name in spreads) and bool(spreads) == (words is DESCRIPTOR)
    names = [{path.name for path in folder.iterdir()} for folder in (by_two[0][number], tmp_path)]
    predicted = {"descriptors.parquet", "errors.parquet", "predicted_by.safetensors", "check"}
    predicted |= {"pair_scores" + ending for ending in ("", "_query", "_reference")}
    assert names[0] - predicted == names[1] - {"check"} >= {"model.safetensors", "last.ckpt", "config.yaml"}


@pytest.mark.filterwarnings("ignore")
def test_two_processes_describe_every_picture_once(by_two, command, drawn, tmp_path, monkeypatch):
    (trained, _), pictures, _ = by_two
    monkeypatch.setattr(photo_pairs, "PICTURES_A_BATCH", 5)
    shutil.copy(trained / "last.ckpt", tmp_path)
    code, _, err = command("predict", *DESCRIPTOR, "--data.photos", drawn, "--output", tmp_path, "--data.pictures", pictures)
    assert code == 0, err
    first, second = (read_record(folder / "descriptors.parquet", Descriptors) for folder in (tmp_path, trained))
    assert len(second) == 16 and second.image_id.tolist() == first.image_id.tolist() == sorted(set(second.image_id.tolist()))
    assert np.allclose(first.rows, second.rows, atol=1e-6)
    assert [read_record(folder / "errors.parquet", Errors).id.tolist() for folder in (tmp_path, trained)] == [["broken"], ["broken"]]


@pytest.mark.filterwarnings("ignore")
def test_two_processes_judge_every_pair_once(by_two, command, drawn, tmp_path, monkeypatch):
    (_, trained), pictures, told = by_two
    assert "pair scores, process 0 of 2: 16 items" in told and "2 of 30 pairs could not be scored" in told
    monkeypatch.setattr(scoring, "SHARD", 8)
    shutil.copy(trained / "last.ckpt", tmp_path)
    code, _, err = command("predict", *PAIRS, "--data.photos", drawn, "--output", tmp_path, *sides(pictures))
    assert code == 0, err
    files = [{file.name: file.read_bytes() for file in (room / "pair_scores").iterdir()} for room in (tmp_path, trained)]
    assert [json.loads(of.pop("manifest.json"))["shards"] for of in files] == [[[0, 8], [8, 16], [16, 24], [24, 30]]] * 2
    assert files[0] == files[1] and len(files[0]) == 4 + 4 + 2 + 1
    found = Stage.load(trained / "pair_scores", PairScores).read()
    assert list(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)) == LISTED
    assert np.flatnonzero(np.isnan(found.evidence["pair_logit"])).tolist() == [5, 13]
    assert len(set(found.evidence["pair_logit"][~np.isnan(found.evidence["pair_logit"])].tolist())) > 20


@pytest.mark.filterwarnings("ignore")
def test_two_processes_measure_what_one_does(by_two, command, drawn, tmp_path):
    (descriptor, pairs), _, told = by_two
    for verb, words, trained in (("validate", DESCRIPTOR, descriptor), ("validate", [*PAIRS, *MEASURED], pairs), ("test", PAIRS, pairs)):
        shutil.copy(trained / "last.ckpt", tmp_path)
        code, _, err = command(verb, *words, "--data.photos", drawn, "--output", tmp_path)
        found = [line for line in err.splitlines() if line.startswith(("val_", "test_"))]
        assert code == 0 and found and all(line in told for line in found), err


def test_one_process_keeps_all():
    rows = torch.randn(4, 3)
    assert own_part(4) == slice(0, 4) and gather(rows) is rows
    assert collect("x") == ["x"] and hand_out("x") == "x" and patient_group() is None


def test_what_stays_on_one_device_is_told(make_data, make_module, drawn):
    data = make_data(batch_size=4)
    data.check_devices(2)
    with pytest.raises(UsageError, match=r"data\.batch_size 4 cannot be shared by 3 devices"):
        data.check_devices(3)
    with pytest.raises(UsageError, match=r"data\.groups 3 cannot be shared by 2 devices"):
        PairGroups(str(drawn), groups=3).check_devices(2)
    with pytest.raises(UsageError, match=r"OverlayScenes feeds one device: set trainer\.devices"):
        OverlayScenes(str(drawn)).check_devices(2)
    module = make_module(objective=BarlowTwins(width=8), loss=LossSettings())
    module._trainer = SimpleNamespace(world_size=2, datamodule=data)
    with pytest.raises(UsageError, match="the objective BarlowTwins works on one device"):
        module.setup("fit")
    make_module().check_devices(2)


def test_it_is_told_before_there_are_several_processes(command, drawn, tmp_path):
    words = ["--data.photos", drawn, "--output", tmp_path, "--trainer.devices", "3", "--trainer.strategy", "ddp"]
    code, out, err = command("fit", *DESCRIPTOR, *words)
    assert (code, out) == (2, "") and "data.batch_size 4 cannot be shared by 3 devices" in err and err.count("\n") == 1

"""The benchmark command on six photographs: peers in their own processes, one table, honest costs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from matcher.errors import MatcherError

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "experiments" / "benchmarks"
PHOTOS = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A file of experiments/benchmarks or of its peers/, imported as its own command imports it, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPTS / "peers"))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in [name for name, module in sys.modules.items() if str(SCRIPTS) in (getattr(module, "__file__", None) or "")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six references; an untouched copy, a re-saved small one, a mirrored crop, and a plain picture that is a copy of nothing."""
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    folder = tmp_path_factory.mktemp("bench")
    (folder / "queries").mkdir()
    (folder / "references").mkdir()
    photos = {}
    for name in PHOTOS:
        photos[name] = Image.open(data / name).convert("RGB")
        photos[name].thumbnail((320, 320))
        photos[name].save(folder / "references" / f"{Path(name).stem}.png")
    mirrored = photos["astronaut.png"].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    photos["chelsea.png"].save(folder / "queries" / "untouched.png")
    photos["coffee.png"].resize((200, 140)).save(folder / "queries" / "resaved.jpg", quality=70)
    mirrored.crop((40, 20, 280, 260)).save(folder / "queries" / "mirrored.png")
    Image.new("RGB", (300, 200), "grey").save(folder / "queries" / "plain.png")
    truth = "untouched,chelsea\nresaved,coffee\nmirrored,astronaut\nplain,\n"
    (folder / "ground_truth.csv").write_text("query_id,reference_id\n" + truth)
    edits = "untouched,chelsea,none,0,1,\nresaved,coffee,scale,1,1,\nmirrored,astronaut,hflip+crop,2,1,\nplain,,none,0,0,\n"
    (folder / "edits.csv").write_text("query_id,reference_id,families,severity,covered,frame\n" + edits)
    return folder


def run_peers(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "peers.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_command_prints_and_writes_one_table(benchmark: Path, tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    pytest.importorskip("faiss")
    words = ["--benchmark", str(benchmark), "--output", str(tmp_path), "--methods", "[phash, opencv_sift]", "--resamples", "20"]
    done = run_peers(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "table.md").read_text()
    assert "round 1 of 1: pHash took" in done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    phash, sift = results["methods"]
    assert (phash["method"], sift["method"]) == ("phash", "opencv_sift")
    assert phash["evaluation"]["recall_at_rank1"]["value"] == pytest.approx(2 / 3)  # all but the mirrored one
    assert sift["evaluation"]["micro_ap"]["value"] == 1.0
    assert sift["time_ratio"] == 1.0 and phash["time_ratio"] == pytest.approx(phash["wall_s"] / sift["wall_s"])
    assert sift["s_per_query"] == pytest.approx(sift["wall_s"] / 4)
    assert sift["peak_mib"] > 50
    assert "| hflip " in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--benchmark", "BENCH/queries"], "is no benchmark folder: it holds no queries"),
        (["--benchmark", "BENCH", "--repeats", "0"], "repeats must be at least 1, got 0"),
        (["--benchmark", "BENCH", "--methods", "[]"], "methods must name at least one method"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(benchmark: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    done = run_peers(*(word.replace("BENCH", str(benchmark)) for word in words), "--output", str(tmp_path / "none"))
    assert done.returncode == 2
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_pdq_finds_light_edits_only(script: Callable[[str], ModuleType], benchmark: Path, tmp_path: Path) -> None:
    pytest.importorskip("pdqhash")
    script("pdq").main(str(benchmark / "queries"), str(benchmark / "references"), str(tmp_path / "pdq.csv"))
    rows = [line.split(",") for line in (tmp_path / "pdq.csv").read_text().splitlines()[1:]]
    assert len(rows) == 4 * len(PHOTOS)
    first = {query: (reference, float(score)) for query, reference, score in reversed(rows)}
    assert first["untouched"] == ("chelsea", 1.0)
    assert first["resaved"][0] == "coffee" and 0.8 < first["resaved"][1] < 1
    assert first["mirrored"][1] < 0.75


def test_hamming_agrees_with_counting_bits(script: Callable[[str], ModuleType], benchmark: Path, tmp_path: Path) -> None:
    hamming = script("hamming")

    def hash_picture(picture: Image.Image) -> np.ndarray:
        grey = np.asarray(picture.convert("L").resize((8, 8)))
        return (grey > np.median(grey)).ravel()

    hamming.write_nearest(str(benchmark / "queries"), str(benchmark / "references"), str(tmp_path / "out.csv"), hash_picture)
    for line in (tmp_path / "out.csv").read_text().splitlines()[1:]:
        query, reference, score = line.split(",")
        pictures = [next((benchmark / side).glob(f"{name}.*")) for side, name in (("queries", query), ("references", reference))]
        one, other = (hash_picture(Image.open(path)) for path in pictures)
        assert float(score) == sum(a == b for a, b in zip(one, other, strict=True)) / 64


def test_pictures_without_keypoints_share_nothing(script: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("faiss")
    sift = script("opencv_sift")
    extractor, matcher = sift.cv2.SIFT.create(), sift.cv2.BFMatcher()
    nothing = sift.extract(extractor, np.full((64, 64), 90, np.uint8))
    noise = sift.extract(extractor, np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    assert nothing[1].shape == (0, 128) and len(noise[1]) > 20
    assert np.allclose(np.linalg.norm(noise[1], axis=1), 1, atol=1e-5)  # RootSIFT rows have unit length
    assert sift.count_inliers(matcher, nothing, noise) == sift.count_inliers(matcher, noise, nothing) == 0
    assert sift.count_inliers(matcher, noise, noise) == len(noise[1])


MEASURE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from measure import measure
folder = Path(sys.argv[1])
costs = [measure(code, [sys.executable, "-c", code], log=folder / "log", folder=folder) for code in sys.argv[2:]]
print(json.dumps([asdict(cost) for cost in costs]))
"""


def test_cost_is_that_of_one_child(tmp_path: Path) -> None:
    words = [sys.executable, "-c", MEASURE, str(tmp_path), "b = b'x' * (300 << 20)", "import time; time.sleep(0.5)"]
    # In a process of its own: a child's peak counts what its parent held when it was started, and a test run holds much.
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
    hungry, asleep = (SimpleNamespace(**cost) for cost in json.loads(done.stdout))
    assert hungry.peak_mib > 300 and asleep.peak_mib < hungry.peak_mib - 100
    assert asleep.wall_s > 0.5 and asleep.cpu_s < asleep.wall_s


def test_failing_command_tells_its_last_line(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "print('well'); raise SystemExit('no such picture')"]
    with pytest.raises(MatcherError, match=r"^a peer ended with exit code 1: no such picture$"):
        script("measure").measure("a peer", failing, log=tmp_path / "log", folder=tmp_path)


def test_time_ratio_pairs_the_rounds(script: Callable[[str], ModuleType]) -> None:
    measure, table = script("measure"), script("table")

    def outcome(*seconds: float) -> object:
        costs = tuple(measure.Cost(wall_s=s, cpu_s=s, peak_mib=1, load_before=0) for s in seconds)
        return table.Outcome(method="matcher", costs=costs, evaluation=SimpleNamespace(queries=10))

    ours, unit = outcome(1, 20, 3), outcome(10, 10, 5)
    assert ours.time_ratio(unit) == 0.6  # of 0.1, 2.0 and 0.6; the medians' own ratio is 0.3
    assert ours.wall_s == 3 and ours.s_per_query == 0.3


def test_rows_are_a_markdown_table(script: Callable[[str], ModuleType]) -> None:
    lines = script("table").render_rows([["", "uAP"], ["pHash", "0.26"], ["b", "1"]]).splitlines()
    assert lines == ["|       |  uAP |", "| ----- | ---: |", "| pHash | 0.26 |", "| b     |    1 |"]


def test_matcher_is_given_the_run_file(benchmark: Path, tmp_path: Path) -> None:
    words = ["--benchmark", str(benchmark), "--output", str(tmp_path), "--methods", "[matcher]", "--run_file", "nosuch.yaml"]
    done = run_peers(*words)
    assert done.returncode == 1 and "there is no config" in (tmp_path / "matcher.log").read_text() + done.stderr

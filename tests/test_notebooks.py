"""The cells of the notebooks run on small sets, and the commands that they name are real."""

import json
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from matcher import geometry
from matcher.cli.parser import parse
from matcher.cli.verbs import VERBS
from matcher.engine.local import run_shards
from matcher.models import checkpoint
from matcher.models.descriptor import Descriptor
from matcher.shipped import PACKAGE
from matcher.storage.records import read_record
from matcher.storage.stage import Stage
from matcher.types import Descriptors, Errors, PairScores, Predictions
from matcher.views.plan import single_views
from matcher.workshop import ablate

NOTEBOOKS = sorted((PACKAGE.parent / "notebooks").glob("*.ipynb"))
COPIES = {"cropped": "astronaut", "flipped": "chelsea", "half": "page", "same bytes": "brick", "horse": ""}
EDITS = {"cropped": "crop", "flipped": "hflip", "half": "resize", "same bytes": "", "horse": ""}
REFERENCES = (*filter(None, COPIES.values()), "moon", "coins")


def cells(path, kind):
    """Notebook -> the sources of its cells of a kind."""
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def execute(name, room):
    """Name of a notebook, and the names that its cells find -> the same with all that they made."""
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    for source in cells(path, "code"):
        exec(compile(source, str(path), "exec"), room)
    return room


@pytest.fixture
def finished(tmp_path):
    """A folder with pair scores of two queries, and the benchmark that they are of."""
    names = ("pair_logit", "descriptor_similarity", "sift_inliers", "sift_agreeing")
    frames = np.stack([geometry.from_box(0.1, 0.2, 0.8, 0.9), np.full((3, 3), np.nan), geometry.flip(), geometry.identity()])
    scores = PairScores(
        query_id=np.array(["a", "a", "b", "b"]),
        reference_id=np.array(["x", "y", "x", "y"]),
        frame=frames,
        patch_frame=frames,
        evidence={name: np.array([-1.0, 2.0, 0.5, -3.0], dtype=np.float32) for name in names},
    )
    stage = Stage.open(tmp_path / "out" / "pair_scores", PairScores, config={}, inputs={}, items=4, items_per_shard=4)
    run_shards(stage, lambda rows: (scores.take(slice(rows.start, rows.stop)), Errors.empty(), {}), workers=1, label="scores")
    for side, ids in (("queries", "ab"), ("references", "xy")):
        (tmp_path / "dev" / side).mkdir(parents=True)
        for id_ in ids:
            Image.new("RGB", (60, 40), "gray").save(tmp_path / "dev" / side / f"{id_}.png")
    (tmp_path / "dev" / "ground_truth.csv").write_text("query_id,reference_id\na,x\nb,\n")
    (tmp_path / "dev" / "edits.csv").write_text("query_id,families\na,crop\nb,blur\n")
    return tmp_path


def test_wrong_pairs_are_told_and_drawn(finished, monkeypatch, capsys):
    monkeypatch.setenv("RUN", str(finished / "out"))
    monkeypatch.setenv("BENCHMARK", str(finished / "dev"))
    drawn = []
    room = {"display": drawn.append}
    execute("wrong_pairs", room)
    out = capsys.readouterr().out
    assert "4 pairs, 1 of them copies; the pair model is right about 25.0%" in out
    assert [line.split()[:3] for line in out.splitlines() if "pair_logit" in line] == [
        ["stranger", "a", "y"],
        ["stranger", "b", "x"],
        ["copy", "a", "x"],
    ]
    assert len(drawn) == 3 and all(sheet.height == 240 for sheet in drawn)


@pytest.fixture(scope="module")
def ablation(library, tmp_path_factory):
    """A folder with a small benchmark, an ablation of two strategies on it, and their YAML."""
    folder = tmp_path_factory.mktemp("notebooks")
    for side, names in (("queries", COPIES), ("references", REFERENCES)):
        (folder / side).mkdir()
        for name in names:
            (file,) = getattr(library, side).glob(f"{name}.*")
            shutil.copy(file, folder / side)
    (folder / "ground_truth.csv").write_text("query_id,reference_id\n" + "".join(f"{q},{r}\n" for q, r in COPIES.items()))
    rows = "".join(f"{q},{r},{EDITS[q]},1,0.5,1 0 0 0 1 0 0 0 1\n" for q, r in COPIES.items())
    (folder / "edits.csv").write_text("query_id,reference_id,families,severity,covered,frame\n" + rows)
    checkpoint.save(folder / "mine.safetensors", Descriptor.build("timm:test_vit", size=32, dim=16), {})
    both = {"descriptor": {"backbone": str(folder / "mine.safetensors"), "query_views": ["whole", "flip", "turns"]}}
    rows = {"full": ["run/keypoints.yaml", both], "keypoints": ["run/keypoints.yaml"]}
    (folder / "strategies.yaml").write_text(yaml.safe_dump({"rows": rows}))
    ablate(
        *(folder / name for name in ("queries", "references", "ground_truth.csv", "out")),
        rows=rows,
        edits=folder / "edits.csv",
        resamples=20,
    )
    return folder


@pytest.fixture
def show(ablation, monkeypatch):
    """Name of a notebook -> what it names, its tables as lists of rows of cells (the header first), and its figures, all drawn."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    for name, value in {"OUT": "out", "BENCHMARK": ".", "CONFIG": "strategies.yaml", "PICTURE": "references/astronaut.png"}.items():
        monkeypatch.setenv(name, str(ablation / value))
    texts, figures = [], []

    def keep():
        plt.gcf().canvas.draw()
        figures.append(plt.gcf())

    def run(name):
        room = execute(name, {"display": lambda data, raw: texts.append(data["text/markdown"])})
        lines = [
            [line.strip("| ").split(" | ") for line in text.splitlines() if line[:2] == "| " and line[:5] != "| ---"] for text in texts
        ]
        return room, lines, figures

    monkeypatch.setattr(plt, "show", keep)
    yield run
    plt.close("all")


def test_01_shows_every_view_and_counts_those_of_the_systems(show):
    room, (systems,), (sheet, found) = show("01_views")
    labels = {label.get_text() for axis in sheet.axes for label in axis.get_xticklabels()}
    assert labels == set(single_views()) and "corners_1_2" in labels
    assert found.axes[0].get_title() == f"proposals: {len(room['found']['proposals'])}" and len(found.axes[0].lines) > 0
    numbers = {name: (query, reference, passes) for name, _, query, _, reference, passes in systems[1:]}
    assert numbers["CopyNCE"] == ("45", "9", "34") and numbers["separate"][::2] == ("41", "8")
    assert numbers["D2LV"] == ("9 + up to 4 overlays + up to 20 proposals", "19", "-")


def test_02_counts_what_views_bring(show, ablation, capsys):
    _, (table,), (curve,) = show("02_shortlist_recall")
    recall = {row[0]: row for row in table[1:]}
    assert list(recall) == ["whole", "with flip", "with turns"] and "with halves" in capsys.readouterr().out
    (folder,) = (ablation / "out" / "described").iterdir()
    queries, references = (Stage.load(folder / side / "descriptors", Descriptors).read() for side in ("queries", "references"))
    whole, found = queries.take(queries.kind == "whole"), references.image_id
    first = found[(whole.rows @ references.rows.T).argmax(axis=1)]
    right = np.sum([COPIES[query] == reference for query, reference in zip(whole.image_id, first, strict=True)])
    assert recall["whole"][1:4] == ["1.0 by 1.0", f"{right / 4:.3f}", "1.000"] and recall["with turns"][1] == "4.0 by 1.0"
    assert [line.get_label() for line in curve.axes[0].lines] == list(recall)


def test_03_ranks_by_each_kind_of_evidence(show, ablation):
    _, (alone, disagree, pairs), (scatter,) = show("03_pair_scorers")
    assert [row[:2] for row in alone[1:]] == [
        *(["full", kind] for kind in ("sift_support", "sift_agreeing", "descriptor_similarity", "fused")),
        *(["keypoints", kind] for kind in ("sift_support", "sift_agreeing", "fused")),
    ]
    assert alone[1][3].startswith("1.000 [") and len(disagree) == 4 and disagree[1][0] == "sift_support (4)"
    assert [row[n] for n, row in enumerate(disagree)][1:] == ["0", "0", "0"] and len(pairs[0]) == 8
    found = read_record(ablation / "out" / "rows" / "full" / "predictions.parquet", Predictions)
    assert scatter.axes[0].lines[0].get_label() == f"strangers ({len(found) - 4})"


def test_04_adds_terms_up_to_the_probability(show):
    _, (terms, examples, best, calibration), (diagram,) = show("04_fusion_and_calibration")
    fitted = ["keypoints", "keypoints, descriptor", "keypoints, descriptor, pair model"]
    assert [row[0] for row in best[1:]] == ["as shipped", *fitted, "all that are candidates"]
    assert best[1][1] == best[-1][1] == "1.000" and all(0.5 < float(row[1]) <= 1 for row in best[1:])
    assert [row[0] for row in terms[1:]] == list(examples[0][3:6]) and len(calibration) == 3
    assert [row[0] for row in examples[1:]] == ["surest copy", "surest stranger", "least believed copy"]
    for row in examples[1:]:
        assert sum(map(float, row[3:7])) == pytest.approx(float(row[7]), abs=0.03)
    assert float(examples[1][8]) > float(examples[3][8]) > float(examples[2][8])
    assert len(diagram.axes[0].lines[1].get_xdata()) == 10


def test_05_shows_accuracy_cost_and_families(show):
    _, (table,), (costs, families) = show("05_ablation")
    assert [row[0] for row in table if row[0] in ("full", "keypoints")] == ["full", "keypoints"]
    assert [axis.get_ylabel() for axis in costs.axes] == ["uAP", "recall at P90"] and len(costs.axes[0].texts) == 2
    assert np.shape(families.axes[0].images[0].get_array()) == (4, 2)  # crop, hflip, resize, and one bin of what is covered


def test_07_sets_objectives_against_what_follows_them(show, ablation, tmp_path, monkeypatch):
    made = json.loads((ablation / "out" / "results.json").read_text())
    named = {"one - as it is": "keypoints", "one - more": "full", "two - as it is": "keypoints", "two - more": "keypoints"}
    for place in ("dev", "synthetic"):
        (tmp_path / place).mkdir()
        rows = {name: made["rows"][row] for name, row in named.items()}
        (tmp_path / place / "results.json").write_text(json.dumps({"order": list(named), "rows": rows}))
    monkeypatch.setenv("OUTS", f"{tmp_path / 'dev'}:{tmp_path / 'synthetic'}")
    _, (dev, _, gains), (figure,) = show("07_losses")
    uap = {row: f"{made['rows'][row]['evaluation']['micro_ap']['value']:.3f}" for row in ("full", "keypoints")}
    assert dev[0] == ["objective", "as it is", "more"] and [row[0] for row in dev[1:]] == ["one", "two"]
    assert dev[1][1].startswith(uap["keypoints"]) and dev[1][2].startswith(uap["full"])
    assert gains[0] == ["way", "dev", "synthetic"] and gains[1][0] == "more" and "(" in gains[1][2]
    assert [axis.get_title() for axis in figure.axes] == ["dev", "synthetic"] and figure.axes[0].images[0].get_array().shape == (2, 2)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_names_real_commands_and_stays_small(path):
    text = "\n".join(cells(path, "markdown")).replace("\\\n", " ")
    commands = [shlex.split(line)[1:] for line in re.findall(r"^    (matcher .*)$", text, flags=re.MULTILINE)]
    scripts = re.findall(r"^    python (experiments/\S+\.py)", text, flags=re.MULTILINE)
    assert (commands or scripts) and path.stat().st_size < 150_000
    assert all((PACKAGE.parent / script).is_file() for script in scripts)
    for verb, *words in commands:
        assert callable(parse(verb.replace("-", "_"), words).function) and verb.replace("-", "_") in VERBS


@pytest.fixture
def drawing(monkeypatch):
    """matplotlib without a window, and nothing left of what a notebook imported by its path."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(sys, "path", [*sys.path])
    pytest.importorskip("matplotlib")
    yield monkeypatch
    for name in ("compare_codes", "measuring", "codes", "tf_idf"):
        sys.modules.pop(name, None)


def test_keypoints_against_words_on_a_small_set(drawing, capsys, tmp_path):
    drawing.delenv("RESULTS", raising=False)
    drawing.setenv("FIGURE", str(tmp_path / "curve.png"))
    room = {"display": lambda figure: None}
    execute("keypoints_against_words", room)
    assert {row.name for row in room["results"]} == set(room["SMALL"])
    said = capsys.readouterr().out
    assert all(f"| {name} | " in said for name in room["SMALL"])
    with Image.open(tmp_path / "curve.png") as curve:
        assert curve.width > 1000


def test_keypoints_against_words_draws_what_a_command_made(drawing, capsys, tmp_path):
    columns = "name,family,recall_1,recall_10,recall_100,uap,uap_low,uap_high,picture_bytes,id_bytes,place_bytes,shared_bytes"
    rows = [
        "fp16,rows,nan,nan,nan,nan,nan,nan,48501,2848,5696,100,0,11201,11000,8",
        "9 words,words,.5,.6,.7,.6,.5,.7,900,300,0,100,3,4,2,720",
    ]
    text = "\n".join([f"{columns},build_seconds,ms_per_query,lookup_ms,queries", *rows])
    (tmp_path / "results.csv").write_text(text)
    drawing.setenv("RESULTS", str(tmp_path / "results.csv"))
    drawn = []
    execute("keypoints_against_words", {"display": drawn.append})
    said = capsys.readouterr().out
    assert "| fp16 | – | – | – | – | 48,501 |" in said and "| 9 words | 0.500 | 0.600 | 0.700 | 0.600 [0.500, 0.700] |" in said
    assert [line.get_label() for line in drawn[0].axes[0].get_lines()] == ["rows", "words"]

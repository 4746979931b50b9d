"""A whole made benchmark: bytes, formats, truth, and refusals."""

from __future__ import annotations

import csv
import fcntl
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matcher import geometry
from matcher.data.synthesize import plan_queries, synthesize
from matcher.errors import MatcherError, UsageError
from matcher.metrics.truth import Edits, GroundTruth


def draw_photos(folder: Path, count: int) -> Path:
    """Photos of random blocks, all different."""
    folder.mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((200, 150), Image.Resampling.BICUBIC).save(folder / f"photo {number}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("input") / "photos", 9)


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output") / "made"
    synthesize(str(photos), str(output), queries=16, max_side=200, reference_side=96, seed=4, workers=1)
    return output


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(photos: Path, made: Path, tmp_path: Path) -> None:
    again = synthesize(str(photos), str(tmp_path / "x"), queries=16, max_side=200, reference_side=96, seed=4, workers=3)
    assert read_bytes(tmp_path / "x") == read_bytes(made)
    assert (again.references, again.positives, again.distractors, again.skipped) == (6, 8, 8, 0)
    synthesize(str(photos), str(tmp_path / "x"), queries=16, max_side=200, reference_side=96, seed=5, workers=1, fresh=True)
    assert read_bytes(tmp_path / "x")["queries/Q00000.jpg"] != read_bytes(made)["queries/Q00000.jpg"]


def test_one_process_makes_a_benchmark_in_a_folder_at_a_time(photos: Path, tmp_path: Path) -> None:
    few = {"queries": 2, "max_side": 96, "reference_side": 48, "workers": 1}
    synthesize(str(photos), str(tmp_path / "x"), **few)
    before = read_bytes(tmp_path / "x")
    with (tmp_path / "x" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711")
        file.flush()
        with pytest.raises(MatcherError, match="process 4711 is working in"):
            synthesize(str(photos), str(tmp_path / "x"), seed=1, fresh=True, **few)
    (tmp_path / "x" / ".lock").unlink()
    assert read_bytes(tmp_path / "x") == before
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / ".lock").write_text("4711")  # of one that was killed
    synthesize(str(photos), str(tmp_path / "y"), **few)
    assert read_bytes(tmp_path / "y") == before


def test_the_tables_have_the_format_of_the_benchmark(made: Path) -> None:
    truth, edits = read_rows(made / "ground_truth.csv"), read_rows(made / "edits.csv")
    assert list(truth[0]) == ["query_id", "reference_id"]
    assert list(edits[0]) == ["query_id", "reference_id", "families", "severity", "covered", "frame"]
    assert [row["query_id"] for row in truth] == [f"Q{n:05d}" for n in range(16)]
    assert [(row["query_id"], row["reference_id"]) for row in edits] == [(row["query_id"], row["reference_id"]) for row in truth]
    assert sum(not row["reference_id"] for row in truth) == 8
    for row in edits:
        frame = np.array(row["frame"].split(), dtype=float).reshape(3, 3)
        assert float(row["covered"]) == pytest.approx(geometry.covered_share(frame), abs=1e-4)
        assert (row["families"] == "none") == (row["severity"] == "0")


def test_pictures_and_masks_are_there_and_fit(made: Path) -> None:
    references = {path.stem for path in (made / "references").iterdir()}
    assert references == {row["reference_id"] for row in read_rows(made / "references.csv")} and len(references) == 6
    for path in (made / "references").iterdir():
        with Image.open(path) as image:
            assert max(image.size) == 96
    for row in read_rows(made / "edits.csv"):
        assert row["reference_id"] in references | {""}
        with (
            Image.open(made / "queries" / f"{row['query_id']}.jpg") as query,
            Image.open(made / "masks" / f"{row['query_id']}.png") as mask,
        ):
            assert query.size == mask.size and max(query.size) <= 200 and query.mode == "RGB"
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
            assert np.asarray(mask).mean() / 255 <= float(row["covered"]) + 0.05


def test_every_edit_is_on_record_in_order(made: Path) -> None:
    lines = [json.loads(line) for line in (made / "edits.jsonl").read_text().splitlines()]
    for line, row in zip(lines, read_rows(made / "edits.csv"), strict=True):
        assert ("+".join(step["name"] for step in line["steps"]) or "none") == row["families"]
        assert sum(step["severity"] for step in line["steps"]) == int(row["severity"])
        assert line["query_id"] == row["query_id"] and line["photo_id"]
    card = json.loads((made / "card.json").read_text())
    assert card["complete"] and card["arguments"]["seed"] == 4 and card["counts"]["positives"] == 8


@pytest.fixture(scope="module")
def several(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `made`, half of its copies of several references."""
    output = tmp_path_factory.mktemp("output") / "several"
    arguments = {"queries": 16, "max_side": 200, "reference_side": 96, "seed": 4, "several_share": 0.5}
    summary = synthesize(str(photos), str(output), **arguments, workers=1)
    assert (summary.positives, summary.distractors, summary.several, summary.families["several"]) == (8, 8, 4, 4)
    first, second, last = str(summary).split("\n")
    assert first == "16 queries, 8 of them edited copies (4 of several references), the rest of nothing; 6 references"
    assert second.startswith("edits: ") and "several 4" in second and last == str(output)
    synthesize(str(photos), str(output.parent / "again"), **arguments, workers=3)
    assert read_bytes(output.parent / "again") == read_bytes(output)
    return output


def test_queries_of_several_references_have_a_row_and_a_mask_for_each(several: Path) -> None:
    truth, edits = GroundTruth.read(several / "ground_truth.csv"), Edits.read(several / "edits.csv")
    assert truth.pairs() == [pair for pair in zip(edits.query_id.tolist(), edits.reference_id.tolist(), strict=True) if pair[1]]
    assert len(truth.queries()) == 16
    lines = [json.loads(line) for line in (several / "edits.jsonl").read_text().splitlines()]
    assert [(line["query_id"], line["reference_id"]) for line in lines] == list(zip(edits.query_id, edits.reference_id, strict=True))
    photo = {row["reference_id"]: row["photo_id"] for row in read_rows(several / "references.csv")}
    assert all(line["photo_id"] == photo[line["reference_id"]] for line in lines if line["reference_id"])
    several_ids = {query for query in truth.queries() if (edits.query_id == query).sum() > 1}
    names = {f"{q}-{r}" if q in several_ids else q for q, r in zip(edits.query_id.tolist(), edits.reference_id.tolist(), strict=True)}
    assert {path.stem for path in (several / "masks").iterdir()} == names and len(several_ids) == 4
    for query in several_ids:
        own = edits.take(edits.query_id == query)
        assert 2 <= len(own) <= 4 and len(set(own.families.tolist())) == 1 and own.families[0].split("+")[0] == "several"
        masks = [np.asarray(Image.open(several / "masks" / f"{query}-{reference}.png")) > 0 for reference in own.reference_id]
        assert sum(mask.astype(int) for mask in masks).max() == 1
        for mask, frame, covered in zip(masks, own.frame, own.covered, strict=True):
            assert mask.any() and mask.mean() <= covered + 0.05
            assert covered == pytest.approx(geometry.covered_share(frame), abs=1e-4)


def test_all_other_queries_are_what_they_are_without_several(several: Path, made: Path) -> None:
    truth, before = read_rows(several / "ground_truth.csv"), read_rows(made / "ground_truth.csv")
    rows, old = read_bytes(several), read_bytes(made)
    plain = [row for row in before if sum(other["query_id"] == row["query_id"] for other in truth) == 1]
    assert len(plain) == 12 and all(row in truth for row in before)  # several references are added to the one there was
    for query in (row["query_id"] for row in plain):
        assert rows[f"queries/{query}.jpg"] == old[f"queries/{query}.jpg"] and rows[f"masks/{query}.png"] == old[f"masks/{query}.png"]
    edits = [row for row in read_rows(several / "edits.csv") if row["query_id"] in {row["query_id"] for row in plain}]
    assert edits == [row for row in read_rows(made / "edits.csv") if row["query_id"] in {row["query_id"] for row in plain}]


def test_several_references_need_two(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(MatcherError, match="only one photo can be used as a reference"):
        synthesize(str(photos), str(tmp_path / "out"), references=1, queries=4, several_share=1.0, max_side=128, workers=1)


def test_distractors_come_from_photos_that_are_no_references(made: Path) -> None:
    own = {row["photo_id"]: row["reference_id"] for row in read_rows(made / "references.csv")}
    for line in (json.loads(line) for line in (made / "edits.jsonl").read_text().splitlines()):
        assert own.get(line["photo_id"], "") == line["reference_id"]


def test_bad_and_repeated_photos_are_passed_over(tmp_path: Path) -> None:
    folder = draw_photos(tmp_path / "photos", 6)
    (folder / "copy.png").write_bytes((folder / "photo 0.png").read_bytes())
    for name in ("broken 1.jpg", "broken 2.jpg", "broken 3.jpg"):
        (folder / name).write_bytes(b"\xff\xd8\xff\xe0 no picture " + name.encode())
    (folder / "empty.jpg").write_bytes(b"")
    summary = synthesize(str(folder), str(tmp_path / "out"), queries=6, references=7, max_side=128, seed=3, workers=1)
    skipped = json.loads((tmp_path / "out" / "card.json").read_text())["skipped"]
    broken = [row for row in skipped if row["id"] != "empty"]
    assert len(skipped) == summary.skipped == len(broken) + 1 and broken
    assert all(row["id"].startswith("broken") and row["code"] in ("corrupt", "truncated") and row["message"] for row in broken)
    assert summary.references == 7 - len(broken) == len(list((tmp_path / "out" / "references").iterdir()))
    assert len(read_rows(tmp_path / "out" / "ground_truth.csv")) == 6
    photos = {row["photo_id"] for row in read_rows(tmp_path / "out" / "references.csv")}
    assert not {"photo 0", "copy"} <= photos


def test_folders_of_others_are_refused_and_own_ones_replaced_if_asked(photos: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(MatcherError, match="not empty"):
        synthesize(str(photos), str(foreign), queries=2)
    assert (foreign / "thesis.txt").read_text() == "mine"
    own = tmp_path / "own"
    synthesize(str(photos), str(own), queries=5, max_side=128, workers=1)
    before = read_bytes(own)
    with pytest.raises(MatcherError, match=r"own holds a benchmark with other settings \(queries: was 5, now 2\).*--fresh"):
        synthesize(str(photos), str(own), queries=2, max_side=128, workers=1)
    assert read_bytes(own) == before
    synthesize(str(photos), str(own), queries=2, max_side=128, workers=1, fresh=True)
    assert len(list((own / "queries").iterdir())) == 2
    for place in ("queries/note.txt", "references/mine.jpg", "masks/Q1.png"):
        (own / place).write_text("mine")
        with pytest.raises(MatcherError, match=f"holds {Path(place).name}, which matcher synthesize did not write"):
            synthesize(str(photos), str(own), queries=2, max_side=128, workers=1, fresh=True)
        (own / place).unlink()
    assert len(list((own / "queries").iterdir())) == 2
    with pytest.raises(UsageError, match="inside the output"):
        synthesize(str(own / "references"), str(own), queries=2)
    assert len(list((own / "references").iterdir())) == 6


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"queries": 0}, "queries must be at least 1"),
        ({"distractor_share": 1.5}, "between 0 and 1"),
        ({"several_share": -0.1}, "several_share must be between 0 and 1"),
        ({"references": 9}, "references must be 1 to 8"),
        ({"difficulty": "odd"}, "easy, usual, hard"),
        ({"max_side": 8}, "max_side must be at least"),
        ({"workers": -1}, "workers"),
    ],
)
def test_impossible_numbers_are_refused_in_a_sentence(photos: Path, tmp_path: Path, wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        synthesize(str(photos), str(tmp_path / "out"), **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_too_few_photos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MatcherError, match="at least 4"):
        synthesize(str(draw_photos(tmp_path / "photos", 3)), str(tmp_path / "out"))


def test_every_reference_is_used_before_one_is_used_twice() -> None:
    plan = plan_queries([f"R{n}" for n in range(10)], 40, 0.25, seed=0)
    targets = [reference for _, reference in plan if reference]
    assert [number for number, _ in plan] == list(range(40)) and len(targets) == 30
    assert {targets.count(f"R{n}") for n in range(10)} == {3}

"""`make demo`: the main job on the pictures that come with scikit-image, and on edited copies made of them on the spot."""

from __future__ import annotations

import csv
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from matcher.errors import MatcherError
from matcher.stages.job import Job

# All lie in scikit-image's wheel. Fourteen, drawn by the seed, become references; strangers are made of the others.
PHOTOS = (
    "astronaut brick camera cell chelsea clock_motion coffee coins color grass gravel hubble_deep_field ihc logo moon motorcycle_left page "
    "retina rocket text"
)
REFERENCES = 14
HEAD = ("query", "copy of", "probability", "covered", "edits", "")
WIDTHS = (7, 18, 12, 8, 40, 5)


def demo(output: str = "demo", *, queries: int = 24, seed: int = 0) -> Outcome:
    """Make edited copies of twenty pictures, find them again, and say which were found right.

    Args:
        output: folder for the pictures, the benchmark and the result; what an earlier demo left there is replaced
        queries: edited pictures to make; two in three are copies, the others copies of nothing
        seed: same seed, same pictures
    """
    from matcher.data.synthesize import synthesize
    from matcher.pipeline import run
    from matcher.stages.strategies import read_strategy

    folder = Path(output)
    photos, benchmark = folder / "photos", folder / "benchmark"
    copy_photos(photos)
    synthesize(str(photos), str(benchmark), queries=queries, references=REFERENCES, distractor_share=1 / 3, seed=seed, fresh=True)
    run(
        benchmark / "queries",
        benchmark / "references",
        folder / "result",
        job=Job(fresh=True),
        ground_truth=benchmark / "ground_truth.csv",
        strategy=read_strategy(["run/full.yaml"]),
    )
    return Outcome(folder)


def copy_photos(folder: Path) -> None:
    """The pictures in scikit-image's wheel -> ``folder``. MatcherError if scikit-image or one of them is not there."""
    try:
        import skimage
    except ImportError as error:
        raise MatcherError("the demo needs scikit-image: pip install 'matcher[cpu,demo]'") from error
    source = Path(skimage.__file__).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS.split():
        found = [path for path in (source / f"{name}.png", source / f"{name}.jpg") if path.is_file()]
        if not found:
            raise MatcherError(f"this scikit-image has no picture {name!r} in {source}: install scikit-image 0.25 or newer")
        shutil.copyfile(found[0], folder / found[0].name)


class Outcome:
    """What the demo found, as a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = tabulate(folder / "benchmark", folder / "result" / "predictions.parquet")

    def as_dict(self) -> dict[str, Any]:
        return {
            "report": str(self.folder / "result" / "report.html"),
            "rows": [dict(zip((*HEAD[:5], "verdict"), row, strict=True)) for row in self.rows],
        }

    def __str__(self) -> str:
        lines = [
            "  ".join(cell[:width].ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip() for row in (HEAD, *self.rows)
        ]
        right = sum(row[-1] == "right" for row in self.rows)
        return "\n".join([*lines, "", f"{right} of {len(self.rows)} right. Look at {self.folder / 'result' / 'report.html'}"])


def tabulate(benchmark: Path, predictions: Path) -> list[tuple[str, ...]]:
    """The benchmark and the predictions about it -> a row for each query and reference; from probability one half on it counts as found.

    Of a query, as many predictions count as it has references: the likeliest ones.
    """
    from matcher.storage.records import read_record
    from matcher.types import Predictions

    found = read_record(predictions, Predictions)
    rows = read_rows(benchmark / "edits.csv")
    true = {(row["query_id"], row["reference_id"]) for row in rows}
    wanted, best = Counter(row["query_id"] for row in rows), defaultdict[str, dict[str, int]](dict)
    for place, (query, reference) in enumerate(zip(found.query_id.tolist(), found.reference_id.tolist(), strict=True)):
        if len(best[query]) < wanted[query]:  # predictions come likeliest first
            best[query][reference] = place
    photo = {row["reference_id"]: Path(row["path"]).stem for row in read_rows(benchmark / "references.csv")}
    table: list[tuple[str, ...]] = []
    for row in rows:
        query = row["query_id"]
        strangers = [place for reference, place in best[query].items() if (query, reference) not in true]
        n = best[query].get(row["reference_id"], strangers[0] if strangers else None)
        sure = n is not None and found.probability[n] >= 0.5
        name = str(found.reference_id[n]) if sure and n is not None else ""
        probability = f"{found.probability[n]:.4f}" if n is not None else ""
        covered = f"{found.query_covered[n]:.0%}" if sure and n is not None else ""
        verdict = "right" if name == row["reference_id"] else "wrong"
        table.append((query, photo.get(name, "nothing"), probability, covered, row["families"], verdict))
    return table


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

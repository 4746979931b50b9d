"""The folder of a made benchmark: pictures, masks, ground truth, edits and a card."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from matcher import __version__, geometry
from matcher.data.edits import Edited
from matcher.data.edits.edited import Pixels
from matcher.errors import MatcherError
from matcher.storage.aside import TEMPORARY, write_aside, write_json
from matcher.storage.lock import LOCK_NAME, FolderLock, hold
from matcher.storage.stage import told

MAKER = "matcher synthesize"
FOLDERS = {  # and the files that are written in each
    "references": re.compile(r"R\d{6,}\.jpg"),
    "queries": re.compile(r"Q\d{5,}\.jpg"),
    "masks": re.compile(r"Q\d{5,}(-R\d{6,})?\.png"),
}
FILES = ("ground_truth.csv", "edits.csv", "edits.jsonl", "references.csv", "card.json")


@dataclass(frozen=True)
class Source:
    """One original of a query as made: which reference it is ("" = none), from which photo, and by which edits it came there."""

    query_id: str
    reference_id: str
    photo_id: str
    families: str
    severity: int
    covered: float
    frame: str
    steps: list[dict[str, Any]]


@dataclass(frozen=True)
class BenchmarkSummary:
    """What :func:`matcher.data.synthesize.synthesize` made.

    Attributes:
        output: the folder
        references, positives, distractors: how many pictures
        several: how many of the positives are copies of several references
        families: how many queries each family of edits is in
        skipped: photos that could not be used
    """

    output: str
    references: int
    positives: int
    distractors: int
    several: int
    families: dict[str, int]
    skipped: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        copies = f"{self.positives:,} of them edited copies" + (f" ({self.several:,} of several references)" if self.several else "")
        skipped = f"\n{self.skipped:,} photos could not be used, see {self.output}/card.json" if self.skipped else ""
        return (
            f"{self.positives + self.distractors:,} queries, {copies}, the rest of nothing; {self.references:,} references{skipped}\n"
            f"edits: {', '.join(f'{name} {count}' for name, count in self.families.items())}\n{self.output}"
        )


def describe_query(query_id: str, originals: Sequence[tuple[str, str]], picture: Edited) -> list[Source]:
    """An edited picture, and (reference id, photo id) of each of its originals in order -> their rows in the tables."""
    return [
        Source(
            query_id=query_id,
            reference_id=reference_id,
            photo_id=photo_id,
            families="+".join(step.name for step in picture.steps) or "none",
            severity=sum(step.severity for step in picture.steps),
            covered=geometry.covered_share(alone.frame),
            frame=" ".join(f"{number:.8g}" for number in (alone.frame + 0.0).ravel()),
            steps=[asdict(step) for step in picture.steps],
        )
        for (reference_id, photo_id), alone in zip(originals, picture.each(), strict=True)
    ]


def claim(folder: Path, arguments: dict[str, Any], *, fresh: bool) -> FolderLock:
    """Make the folder, or empty it if ``synthesize`` made it from the same arguments, or any with ``fresh`` -> its lock.

    MatcherError if it holds another benchmark or anything else, or if another process is making a benchmark in it.
    """
    card = folder / "card.json"
    if folder.exists():
        if not folder.is_dir():
            raise MatcherError(f"{folder} is a file; name a folder for the benchmark")
        if any(entry.name != LOCK_NAME for entry in folder.iterdir()) and not made_here(card):
            raise MatcherError(f"{folder} is not empty and was not made by {MAKER}; name another folder")
        refuse_loss(folder, read_arguments(card), arguments, fresh=fresh)
    folder.mkdir(parents=True, exist_ok=True)
    lock = hold(folder)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for name in FILES[:-1]:
        (folder / name).unlink(missing_ok=True)
    write_json(card, {"made_by": MAKER, "complete": False})
    return lock


def refuse_loss(folder: Path, made_with: dict[str, Any], arguments: dict[str, Any], *, fresh: bool) -> None:
    """MatcherError if a finished benchmark of other arguments would be lost without ``fresh``, or files that are not of a benchmark."""
    for name, value in arguments.items():
        if not fresh and name in made_with and made_with[name] != value:
            changed = f"{name}: was {made_with[name]}, now {value}"
            raise MatcherError(f"{folder} holds a benchmark with other settings ({changed}); name another output, or say --fresh")
    for name, ours in FOLDERS.items():
        found = sorted(entry.name for entry in (folder / name).iterdir()) if (folder / name).is_dir() else []
        if strangers := [file for file in found if not ours.fullmatch(file) and not TEMPORARY.fullmatch(file)]:
            raise MatcherError(f"will not empty {folder / name}: it holds {told(strangers)}, which {MAKER} did not write; move it away")


def made_here(card: Path) -> bool:
    """Does the card say that ``synthesize`` made the folder?"""
    return read_card(card).get("made_by") == MAKER


def read_arguments(card: Path) -> dict[str, Any]:
    """The card of a benchmark -> what it was made with; empty if it was not finished."""
    arguments = read_card(card).get("arguments")
    return arguments if isinstance(arguments, dict) else {}


def read_card(card: Path) -> dict[str, Any]:
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_jpeg(path: Path, pixels: Pixels, quality: int) -> None:
    """Pixels (H, W, 3) RGB -> JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    write_bytes(path, buffer.getvalue())


def write_masks(folder: Path, query_id: str, reference_ids: Sequence[str], picture: Edited) -> None:
    """Where each original of a query is seen -> QUERY.png, or QUERY-REFERENCE.png for each where there are several."""
    for reference_id, alone in zip(reference_ids, picture.each(), strict=True):
        name = query_id if len(reference_ids) == 1 else f"{query_id}-{reference_id}"
        write_mask(folder / f"{name}.png", alone.visible)


def write_mask(path: Path, visible: np.ndarray) -> None:
    """Mask (H, W) bool -> PNG file, 255 where the original is seen."""
    _, encoded = cv2.imencode(".png", visible.astype(np.uint8) * 255)
    write_bytes(path, encoded.tobytes())


def write_bytes(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    with write_aside(path) as file:
        file.write(data)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows -> CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8"))


def write_tables(folder: Path, sources: Sequence[Source], references: Sequence[tuple[str, str, str]]) -> None:
    """The tables of the benchmark: ground truth, edits (short and in full), and which photo each reference is."""
    write_table(folder / "references.csv", ("reference_id", "photo_id", "path"), references)
    write_table(folder / "ground_truth.csv", ("query_id", "reference_id"), ((s.query_id, s.reference_id) for s in sources))
    header = ("query_id", "reference_id", "families", "severity", "covered", "frame")
    rows = ((s.query_id, s.reference_id, s.families, s.severity, f"{s.covered:.4f}", s.frame) for s in sources)
    write_table(folder / "edits.csv", header, rows)
    lines = (json.dumps({name: value for name, value in asdict(s).items() if name not in ("families", "severity")}) for s in sources)
    write_bytes(folder / "edits.jsonl", "".join(line + "\n" for line in lines).encode("ascii"))


def write_card(folder: Path, arguments: dict[str, Any], summary: BenchmarkSummary, skipped: list[dict[str, str]]) -> None:
    """How the benchmark was made; the last file to be written."""
    counts = {name: getattr(summary, name) for name in ("references", "positives", "distractors", "several", "families")}
    card = {"made_by": MAKER, "complete": True, "version": __version__, "arguments": arguments, "counts": counts, "skipped": skipped}
    write_json(folder / "card.json", card)

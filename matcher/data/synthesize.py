"""A benchmark from one's own photos: references, and queries that are edited copies of them or of nothing, with full truth."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from matcher.data.benchmark import (
    BenchmarkSummary,
    Source,
    claim,
    describe_query,
    write_card,
    write_jpeg,
    write_masks,
    write_tables,
)
from matcher.data.edits import Context, Difficulty, Mixture, edit_at_random, gather_at_random, mixture
from matcher.data.edits.edited import Pixels
from matcher.data.edits.placing import limit
from matcher.data.edits.recipe import pick
from matcher.data.photos import Photos, split_photos
from matcher.errors import ImageError, MatcherError, UsageError
from matcher.types import Errors

Item = TypeVar("Item")
Made = TypeVar("Made")

PHOTO_SHARE = 0.8  # of max_side: the longer side at which a photo enters the edits
CANVAS_SHARE = 0.94  # of max_side: the longer side of collages, screens and backgrounds, unless the photo is small
CANVAS_GROWTH = 1.2  # times the photo: the longer side of collages, screens and backgrounds for small photos
LEAST_CANVAS = 320
REFERENCE_QUALITY = 90
QUERY_QUALITY = (78, 96)  # JPEG, drawn for each query
SEVERAL_CHANCES = (0.5, 0.3, 0.2)  # of 2, 3 and 4 references on a query of several


def synthesize(
    photos: str,
    output: str,
    *,
    queries: int = 200,
    references: int | None = None,
    distractor_share: float = 0.5,
    several_share: float = 0.0,
    difficulty: Difficulty = "usual",
    max_side: int = 640,
    reference_side: int = 384,
    seed: int = 0,
    workers: int = 0,
    fresh: bool = False,
) -> BenchmarkSummary:
    """Photos -> a benchmark: references, edited queries, ground truth, every edit with its frame and mask. Same seed, same bytes.

    Args:
        photos: a folder (recursive), a glob, a list file, or a CSV/Parquet table with columns id and path
        output: a new folder, or one that synthesize made before of the same arguments (its content is made anew)
        queries: how many queries
        references: how many photos become references; null = two in three. The others give distractors and what is pasted
        distractor_share: share of the queries that are edited pictures of nothing in the references
        several_share: share of the copies that show two to four references at once; the other queries stay as they are without it
        difficulty: how many edits a query gets and how strong they are
        max_side: longer side of the queries in pixels, at most
        reference_side: longer side of the references in pixels, at most
        seed: of everything that is drawn
        workers: threads; 0 = one for each core; it does not change the result
        fresh: throw a benchmark of other arguments away
    """
    arguments: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("output", "workers", "fresh")}
    check_numbers(arguments, workers)
    mix, folder, threads = mixture(difficulty), Path(output), workers or os.cpu_count() or 1
    split, errors = split_photos(photos, references=references, side=round(PHOTO_SHARE * max_side), seed=seed)
    refuse_overlap(split, folder)
    lock = claim(folder, arguments, fresh=fresh)
    tried = in_threads(partial(write_reference, split, folder, reference_side), list(enumerate(split.references)), threads, "references")
    rows = {f"R{number:06d}": row for (number, row), error in zip(enumerate(split.references), tried, strict=True) if error is None}
    if not rows:
        raise MatcherError(f"{photos}: none of the photos chosen as references can be used")
    if len(rows) < 2 and several_share > 0:
        raise MatcherError(f"{photos}: only one photo can be used as a reference, several_share needs two; give more photos")
    plan = add_sources(plan_queries(list(rows), queries, distractor_share, seed), list(rows), several_share, seed)
    made = in_threads(Workshop(split, rows, mix, folder, max_side, seed).make_query, plan, threads, "queries")
    write_tables(
        folder, [source for query in made for source in query], [(name, split.ids[row], split.paths[row]) for name, row in rows.items()]
    )
    skipped = [*list_errors(errors), *(error for error in tried if error is not None)]
    summary = summarise(folder, len(rows), made, len(skipped))
    write_card(folder, arguments, summary, skipped)
    del lock
    return summary


def check_numbers(arguments: dict[str, Any], workers: int) -> None:
    """UsageError for a number out of range."""
    for name, least in (("queries", 1), ("max_side", 64), ("reference_side", 32), ("seed", 0)):
        if arguments[name] < least:
            raise UsageError(f"{name} must be at least {least}, not {arguments[name]}")
    for name in ("distractor_share", "several_share"):
        if not 0 <= arguments[name] <= 1:
            raise UsageError(f"{name} must be between 0 and 1, not {arguments[name]}")
    if workers < 0:
        raise UsageError(f"workers must be 0 (one for each core) or more, not {workers}")


def refuse_overlap(photos: Photos, folder: Path) -> None:
    """UsageError if a photo lies in the output folder, which is about to be emptied."""
    target = folder.resolve()
    for path in photos.paths:
        if Path(path).resolve().is_relative_to(target):
            raise UsageError(f"{path} lies inside the output folder {folder}; name another output")


def write_reference(photos: Photos, folder: Path, side: int, numbered: tuple[int, int]) -> dict[str, str] | None:
    """Number and row of a reference -> its file; if the photo is bad, the error as a row."""
    number, row = numbered
    try:
        pixels = limit(photos.load(row), side)
    except ImageError as error:
        return {"id": photos.ids[row], "path": photos.paths[row], "code": error.code, "message": str(error)}
    write_jpeg(folder / "references" / f"R{number:06d}.jpg", pixels, REFERENCE_QUALITY)
    return None


def plan_queries(reference_ids: Sequence[str], queries: int, distractor_share: float, seed: int) -> list[tuple[int, str]]:
    """Number of each query and whose copy it is ("" = of none); no reference twice before each was used once."""
    rng = np.random.default_rng([seed, 1])
    positives = queries - round(queries * distractor_share)
    order: list[str] = []
    while len(order) < positives:
        order += [reference_ids[i] for i in rng.permutation(len(reference_ids))]
    targets = order[:positives] + [""] * (queries - positives)
    return list(enumerate(targets[i] for i in rng.permutation(queries)))


def add_sources(
    plan: Sequence[tuple[int, str]], reference_ids: Sequence[str], several_share: float, seed: int
) -> list[tuple[int, list[str]]]:
    """The plan -> number of each query and whose copy it is ([""] = of none); a share of the copies got references beside the first."""
    rng = np.random.default_rng([seed, 3])
    copies = [place for place, (_, reference_id) in enumerate(plan) if reference_id]
    several = {copies[i] for i in rng.permutation(len(copies))[: round(several_share * len(copies))]}
    full: list[tuple[int, list[str]]] = []
    for place, (number, reference_id) in enumerate(plan):
        shown = [reference_id]
        wanted = min(2 + pick(rng, SEVERAL_CHANCES), len(reference_ids)) if place in several else 1
        while len(shown) < wanted:
            if (drawn := reference_ids[int(rng.integers(len(reference_ids)))]) not in shown:
                shown.append(drawn)
        full.append((number, shown))
    return full


@dataclass(frozen=True)
class Workshop:
    """Makes queries, each from a generator of its own, so that order and threads do not matter."""

    photos: Photos
    rows: dict[str, int]  # reference id -> row of its photo
    mix: Mixture
    folder: Path
    max_side: int
    seed: int

    def make_query(self, planned: tuple[int, Sequence[str]]) -> list[Source]:
        """One query: picture and masks are written, a row for each of its originals is returned."""
        number, reference_ids = planned
        rng = np.random.default_rng([self.seed, 2, number])
        photos = [self.load(reference_id, rng) for reference_id in reference_ids]
        originals = [pixels for _, pixels in photos]
        context = Context(self.photos.draw_foreign, canvas_side=canvas_side(max(max(p.shape) for p in originals), self.max_side))
        if len(originals) > 1:
            picture = gather_at_random(originals, rng, context, self.mix, self.max_side)
        else:
            picture = edit_at_random(originals[0], rng, context, self.mix, self.max_side)
        name = f"Q{number:05d}"
        write_jpeg(self.folder / "queries" / f"{name}.jpg", picture.pixels, int(rng.integers(*QUERY_QUALITY)))
        write_masks(self.folder / "masks", name, reference_ids, picture)
        return describe_query(name, [(id_, photo) for id_, (photo, _) in zip(reference_ids, photos, strict=True)], picture)

    def load(self, reference_id: str, rng: np.random.Generator) -> tuple[str, Pixels]:
        """A reference ("" = any photo that is none) -> the photo's id and its pixels."""
        if not reference_id:
            return self.photos.draw_outsider(rng)
        return self.photos.ids[self.rows[reference_id]], self.photos.load(self.rows[reference_id])


def canvas_side(photo_side: int, max_side: int) -> int:
    """Longer sides of a photo and of queries in pixels -> that of the canvases it is put on, so that small photos are not blown up."""
    return min(round(CANVAS_SHARE * max_side), max(LEAST_CANVAS, round(CANVAS_GROWTH * photo_side)))


def in_threads(work: Callable[[Item], Made], items: Sequence[Item], threads: int, label: str) -> list[Made]:
    """``work`` on every item, results in order; a bar on stderr if that is a terminal; the rest is dropped at the first error."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in tqdm(futures, desc=label, unit="", disable=None)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def list_errors(errors: Errors) -> list[dict[str, str]]:
    """Errors as rows for the card."""
    names = ("id", "path", "code", "message")
    return [dict(zip(names, row, strict=True)) for row in zip(*(getattr(errors, name).tolist() for name in names), strict=True)]


def summarise(folder: Path, references: int, made: Sequence[Sequence[Source]], skipped: int) -> BenchmarkSummary:
    """Counts of what was made; the sources of one query went through the same edits."""
    positives, several = sum(bool(query[0].reference_id) for query in made), sum(len(query) > 1 for query in made)
    families = Counter(family for query in made for family in query[0].families.split("+"))
    return BenchmarkSummary(str(folder), references, positives, len(made) - positives, several, dict(sorted(families.items())), skipped)

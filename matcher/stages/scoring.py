"""A list of pairs and the described pictures -> the stage of pair scores, in the list's order, with the list's own columns."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matcher.engine.once import Once
from matcher.engine.shards import run_shards
from matcher.errors import ImageError, MatcherError, UsageError
from matcher.images.table import read_images
from matcher.scoring import pair_model
from matcher.scoring.judge import NAMES, Judge
from matcher.scoring.pair_model import PairJudge
from matcher.settings import PairModelSettings, Strategy
from matcher.shortlist.rules import check_found
from matcher.shortlist.second_vote import voted_again
from matcher.stages.collection import is_collection
from matcher.stages.describing import ERRORS, PLURAL, describe_set, load_described, read_listed, refuse, warn_of_side, warn_of_the_moment
from matcher.stages.descriptors import Side, compare_descriptors
from matcher.stages.job import Job
from matcher.stages.pasted import load_crops
from matcher.stages.predicting import LOGIT
from matcher.storage.columns import from_arrow, to_arrow
from matcher.storage.manifest import MANIFEST_NAME
from matcher.storage.records import EVIDENCE, write_record
from matcher.storage.stage import Stage
from matcher.storage.tables import read_table
from matcher.types import Candidates, Errors, PairScores, Predictions

Place = str | PathLike[str]
SHARD = 64  # pairs
SIDES: tuple[Side, Side] = ("query", "reference")
TAKEN = {LOGIT, *(name for name, _, _ in Predictions.columns())} - {"query_id", "reference_id"}  # columns that later steps add
TAKEN_STARTS = (EVIDENCE, *(f"{side}." for side in SIDES))
log = logging.getLogger("matcher")


def score_list(
    pairs: Place, queries: Place, references: Place, output: Path, *, strategy: Strategy, job: Job, run: Callable[..., None] = run_shards
) -> Path:
    """List of pairs and two places (pictures, or folders that describe wrote) -> the folder of finished pair scores.

    Places that are not described yet are described into folders named for the output, beside it. The pairs that could not be
    scored are listed in errors.parquet. ``run``: what has the pairs judged, called like ``run_shards``.
    """
    table = read_pairs(Path(pairs))
    check_unique(*(from_arrow(table.column(name), "text") for name in ("query_id", "reference_id")))
    folders = [described(place, side, output, strategy, job) for place, side in zip((queries, references), SIDES, strict=True)]
    for folder, side in zip(folders, SIDES, strict=True):
        table = add_columns(table, folder, side)
    judge, made_of = load_judge(*folders, strategy=strategy, job=job)
    stage = score_pairs(table, output, judge, strategy=strategy, job=job, made_of=made_of, run=run)
    errors = stage.errors()
    write_record(output / ERRORS, errors)
    if len(errors):
        log.warning("%d of %d pairs could not be scored, see %s", len(errors), len(table), output / ERRORS)
    return stage.folder


def load_judge(queries: Path, references: Path, *, strategy: Strategy, job: Job) -> tuple[Once[Judge], dict[str, str]]:
    """Two folders that describe wrote -> who judges pairs of their pictures, and fingerprints of what decides the verdicts."""
    (first, query_print), (second, reference_print) = load_described(queries), load_described(references)
    warn_of_side(queries, strategy)
    similarity, prints = compare_descriptors(queries, references, second.pictures, strategy)
    crops, crop_prints = load_crops(queries, first, strategy)
    learned = pair_judge(strategy, job)
    judge = Once(partial(Judge, first, second, strategy, similarity=similarity, learned=learned, crops=crops, cache=job.cache_folder))
    return judge, {"queries": query_print, "references": reference_print, **prints, **crop_prints}


def described(place: Place, side: Side, output: Path, strategy: Strategy, job: Job) -> Path:
    """Pictures, or a folder that describe wrote, or a collection -> a folder that describe wrote, or the collection."""
    folder = Path(place)
    if (folder / "keypoints" / MANIFEST_NAME).is_file() or is_collection(folder):
        return folder
    images, unread = read_images(place, PLURAL[side], on_error=job.on_error)
    return describe_set(images, unread, output.with_name(f"{output.name}_{side}"), side=side, strategy=strategy, job=job)


def read_pairs(path: Path) -> pa.Table:
    """Folder of candidates, or CSV or Parquet file with query_id and reference_id -> table. The candidates' frames are left out."""
    if not path.is_dir():
        table = read_table(path, columns={"query_id": "text", "reference_id": "text"})
        if taken := [name for name in table.column_names if name in TAKEN or name.startswith(TAKEN_STARTS)]:
            raise MatcherError(f"{path}: rename the column {', '.join(map(repr, taken))}, matcher writes columns of such names itself")
        return table
    found = Stage.load(path, Candidates).read()
    return pa.table({name: to_arrow(getattr(found, name)) for name in ("query_id", "reference_id", "similarity", "source")})


def add_columns(pairs: pa.Table, folder: Path, side: Side) -> pa.Table:
    """Pairs and a folder that describe wrote -> the pairs with the pictures' own columns, as query.NAME; null where the id is unknown."""
    images, own = read_listed(folder)
    if not own.num_columns:
        return pairs
    number = {id_: row for row, id_ in enumerate(images.id.tolist())}
    rows = pa.array([number.get(id_) for id_ in from_arrow(pairs.column(f"{side}_id"), "text").tolist()], pa.int64())
    for name in own.column_names:
        pairs = pairs.append_column(f"{side}.{name}", own.column(name).take(rows))
    return pairs


def check_pair_model(strategy: Strategy, settings: PairModelSettings) -> None:
    """UsageError if a strategy's pair model waits for keypoints that are off, or for views that are not there."""
    if settings.doubt is not None and strategy.scorers.sift is None:
        raise UsageError("scorers.pair_model.doubt waits for keypoints: give scorers.sift, or make doubt null")
    check_found(settings.views or (), strategy.descriptor)


def pair_judge(strategy: Strategy, job: Job) -> Callable[[], PairJudge] | None:
    """Strategy -> what loads its pair model, ready to judge; None if it names none."""
    settings = strategy.scorers.pair_model
    if settings is None:
        return None
    check_pair_model(strategy, settings)
    settings = replace(settings, precision=pair_model.precision_of(settings))  # here, once: other machines may not be like this one
    return partial(PairJudge.load, settings, image_settings=strategy.images, cache=job.cache_folder)


def score_pairs(
    pairs: pa.Table,
    folder: Path,
    judge: Once[Judge],
    *,
    strategy: Strategy,
    job: Job,
    made_of: dict[str, str],
    run: Callable[..., None] = run_shards,
) -> Stage[PairScores]:
    """Table with query_id and reference_id, and a judge of such pairs -> finished stage of pair scores, rows in order."""
    again = strategy.shortlist.again
    config = {"images": asdict(strategy.images), "scorers": scorer_config(strategy), **({"voters": asdict(again.query)} if again else {})}
    inputs = {**made_of, "pairs": fingerprint(pairs)}
    stage = Stage.open(folder, PairScores, config=config, inputs=inputs, items=len(pairs), items_per_shard=SHARD, fresh=job.fresh)
    apart = strategy.scorers.pair_model is None  # threads share its memory of pictures
    run(stage, partial(judge_part, pairs, judge, job), engine=job.engine, workers=job.workers, apart=apart, label="pair scores")
    warn_of_the_moment(stage.errors(), "pairs")
    return stage


def judge_part(pairs: pa.Table, judge: Once[Judge], job: Job, rows: range) -> tuple[PairScores, Errors, dict[str, pa.ChunkedArray]]:
    """All pairs, and the rows of some -> their scores, the bad ones, and the user's own columns. It travels to other processes."""
    part = pairs.slice(rows.start, len(rows))
    query_ids, reference_ids = (from_arrow(part.column(name), "text") for name in ("query_id", "reference_id"))
    scores, errors = judge_rows(judge(), query_ids, reference_ids, voted_again(sources(part)))
    refuse(errors, job)
    return scores, errors, {name: part.column(name) for name in pairs.column_names if name not in ("query_id", "reference_id")}


def sources(pairs: pa.Table) -> list[str | None]:
    """Pairs -> what found each: the column ``source`` of candidates. One of a list of one's own may hold anything."""
    column = pairs.column("source") if "source" in pairs.column_names else None
    return [None] * len(pairs) if column is None or not pa.types.is_string(column.type) else column.to_pylist()


def scorer_config(strategy: Strategy) -> dict[str, Any]:
    """What decides the scores of a pair: settings, and what the file of weights holds. Memory and device do not."""
    scorers = asdict(strategy.scorers)
    if scorers["sift"] is not None:
        del scorers["sift"]["gpu"]
    if (settings := strategy.scorers.pair_model) is not None:
        del scorers["pair_model"]["memory"]
        scorers["pair_model"] |= {"made_by": pair_model.made_by(settings), "precision": pair_model.precision_of(settings)}
    return scorers


def judge_rows(
    judge: Judge, query_ids: NDArray[np.str_], reference_ids: NDArray[np.str_], voted: Sequence[bool]
) -> tuple[PairScores, Errors]:
    """Ids (P,) of pairs, and whether a second vote found each -> their scores, NaN where a picture is missing or bad, and a row of
    Errors for each of these."""
    evidence = {name: np.full(len(query_ids), np.nan, dtype=np.float32) for name in NAMES}
    frames, patch_frames = np.full((len(query_ids), 3, 3), np.nan), np.full((len(query_ids), 3, 3), np.nan)
    errors: list[tuple[str, str, str, str, str]] = []
    ids = list(zip(query_ids.tolist(), reference_ids.tolist(), strict=True))
    numbers = judge.queries.number, judge.references.number
    known = [(numbers[0].get(query, -1), numbers[1].get(reference, -1)) for query, reference in ids]
    again = {pair for pair, found_so in zip(known, voted, strict=True) if found_so}
    found = judge.judge([pair for pair in known if min(pair) >= 0], again)
    for row, (query, reference) in enumerate(ids):
        try:
            refuse_unknown(judge, query, reference)
            verdict = found[known[row]]
            if isinstance(verdict, ImageError):
                raise verdict
        except ImageError as error:
            errors.append((f"{query} {reference}", "", "pairs", error.code, str(error)))
            continue
        for name, value in verdict.evidence.items():
            evidence[name][row] = value
        for told, kept in ((verdict.frame, frames), (verdict.patch_frame, patch_frames)):
            if told is not None:
                kept[row] = told
    scores = PairScores(query_id=query_ids, reference_id=reference_ids, frame=frames, patch_frame=patch_frames, evidence=evidence)
    return scores, Errors.of(errors)


def refuse_unknown(judge: Judge, query: str, reference: str) -> None:
    """ImageError if no good picture of the queries, or of the references, has such an id."""
    swapped = query in judge.references.number and reference in judge.queries.number
    hint = "; it is one of the other side: are the two columns swapped?" if swapped else ""
    for id_, side, name in ((query, judge.queries, "query"), (reference, judge.references, "reference")):
        if id_ not in side.number:
            raise ImageError("missing", f"no usable {name} has the id {id_!r}{hint}")


def check_unique(query_ids: NDArray[np.str_], reference_ids: NDArray[np.str_]) -> None:
    seen: set[tuple[str, str]] = set()
    for row, pair in enumerate(zip(query_ids.tolist(), reference_ids.tolist(), strict=True), start=1):
        if pair in seen:
            raise MatcherError(f"the list of pairs holds {pair[0]}, {pair[1]} again in row {row}: remove it, a pair is scored once")
        seen.add(pair)


def fingerprint(pairs: pa.Table) -> str:
    """Pairs -> how many, and a digest of all their columns, rows in order."""
    digest = hashlib.sha256()
    for name, column in zip(pairs.column_names, pairs.columns, strict=True):
        # nanoseconds do not fit Python's own times
        values = column.to_numpy().tolist() if pa.types.is_temporal(column.type) else column.to_pylist()
        digest.update(repr((name, str(column.type), values)).encode("utf-8", "surrogatepass"))
    return f"{len(pairs)} pairs, {digest.hexdigest()[:16]}"

"""Predictions as they are judged: pairs with a score, and a probability and a frame where there is one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.errors import MatcherError
from matcher.metrics.csv_file import read_columns, read_numbers, write_rows
from matcher.metrics.truth import check_ids, made
from matcher.types import Predictions, Record, Text, column

logger = logging.getLogger("matcher")

CHALLENGE_ROWS = 500_000
PREDICTIONS = "predictions.parquet"  # of a run
COLUMNS = ("query_id", "reference_id", "score")


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredPairs(Record):
    """A list of predictions, in any order."""

    keys = ("query_id", "reference_id")
    query_id: Text = column("text")  # (P,)
    reference_id: Text = column("text")  # (P,)
    score: NDArray[np.float64] = column("float64")  # (P,) bigger is surer, comparable across queries, any range
    probability: NDArray[np.float64] = column("float64")  # (P,) 0 to 1, NaN = the score is no probability
    frame: NDArray[np.float64] = column("float64", 3, 3)  # (P, 3, 3) query unit square -> reference unit square, NaN = none

    def check(self) -> None:
        super().check()
        if (lost := np.flatnonzero(np.isnan(self.score))).size:
            raise ValueError(f"the score of {self.query_id[lost[0]]}, {self.reference_id[lost[0]]} is not a number")

    @classmethod
    def from_scores(cls, query_id: ArrayLike, reference_id: ArrayLike, score: ArrayLike) -> Self:
        """Pairs and scores (P,) -> predictions without frames; scores that all lie within 0 and 1 are taken as probabilities."""
        score = np.asarray(score, dtype=np.float64)
        within = bool(((score >= 0) & (score <= 1)).all())
        return cls(
            query_id=np.asarray(query_id),
            reference_id=np.asarray(reference_id),
            score=score,
            probability=score if within else np.full(len(score), np.nan),
            frame=np.full((len(score), 3, 3), np.nan),
        )

    @classmethod
    def from_predictions(cls, predictions: Predictions) -> Self:
        """What `run` made -> what is judged."""
        return cls(**{name: getattr(predictions, name) for name, _, _ in cls.columns()})

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """predictions.parquet, or a CSV with columns query_id,reference_id,score (header optional) -> predictions.

        MatcherError if the file is neither, a pair is listed twice, or a score is not a number. More rows than the challenge
        takes are only warned about.
        """
        if (inside := Path(path) / PREDICTIONS).is_file():
            raise MatcherError(f"{path} is the folder of a run: name {inside}")
        pairs = cls.read_parquet(path) if is_parquet(path) else cls.read_csv(path)
        if len(pairs) > CHALLENGE_ROWS:
            logger.warning("%s holds %d predictions, the challenge takes %d", path, len(pairs), CHALLENGE_ROWS)
        return pairs

    @classmethod
    def read_csv(cls, path: str | Path) -> Self:
        queries, references, scores = read_columns(path, COLUMNS, header=False)
        check_ids(path, "query_id", queries)
        check_ids(path, "reference_id", references)
        try:
            return cls.from_scores(queries, references, read_numbers(path, "score", scores))
        except ValueError as error:
            raise MatcherError(f"{path}: {error}") from None

    @classmethod
    def read_parquet(cls, path: str | Path) -> Self:
        from matcher.storage.records import read_record

        predictions = read_record(Path(path), Predictions)
        return made(path, cls, **{name: getattr(predictions, name) for name, _, _ in cls.columns()})


def is_parquet(path: str | Path) -> bool:
    """True if the file begins as a Parquet file does, whatever it is called."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def write_predictions_csv(
    path: str | Path, query_ids: Sequence[str] | Text, reference_ids: Sequence[str] | Text, scores: ArrayLike
) -> None:
    """Pairs and scores (P,) -> CSV in the challenge's format, in the order given, scores with all their digits, atomically.

    MatcherError if a score is NaN or the file cannot be written.
    """
    numbers = np.asarray(scores, dtype=np.float64)
    if np.isnan(numbers).any():
        raise MatcherError(f"{path}: the score of {query_ids[int(np.isnan(numbers).argmax())]} is not a number")
    rows = zip(map(str, query_ids), map(str, reference_ids), map(repr, numbers.tolist()), strict=True)
    write_rows(path, [COLUMNS, *rows])

"""The records that travel between two steps: frozen columns that check themselves when they are made.

Letters in shapes: V views, P pairs, N images, K keypoints, D descriptor numbers, E errors.
Absent is NaN (numbers, frames) or the empty string (text), never 0 or -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Text = NDArray[np.str_]
Float = NDArray[np.float32]


def column(dtype: str, *shape: int | str, default: Any = MISSING) -> Any:
    """A field of a record: rows of ``dtype`` ("text", "bool", "uint8", "int64", "float32", "float64") and ``shape``."""
    return field(metadata={"dtype": dtype, "shape": shape}, default=default)


def converted(array: NDArray[Any], dtype: str, name: str) -> NDArray[Any]:
    """Values of a column -> the same as ``dtype``. ValueError if some are none of it: NaN as text, 300 or 1.5 as uint8, "False" as bool."""
    if dtype == "text":
        if array.dtype.kind in "Of" and any(one is None or one != one for one in array.ravel().tolist()):
            raise ValueError(f"{name} holds None or NaN; the text of what is absent is empty")
        return array.astype(np.str_, copy=False)
    kept = array.astype(dtype, copy=False)
    if kept.dtype != array.dtype and kept.dtype.kind in "biu" and not np.array_equal(kept, array):
        raise ValueError(f"{name} must be {dtype}, and some of its values are not")
    return kept


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """Columns of equal length. Subclasses state dtype and shape of every column; the constructor converts and checks."""

    keys: ClassVar[tuple[str, ...]] = ()  # columns whose combination may not repeat

    def __post_init__(self) -> None:
        lengths = {}
        for name, dtype, shape in self.columns():
            array = np.asarray(getattr(self, name))
            if dtype != "text" or array.dtype.kind != "U":  # text that is text stays as it lies: a copy of a million rows is costly
                array = converted(array, dtype, f"{type(self).__name__}.{name}")
            if array.size == 0 and array.ndim <= 1:
                array = array.reshape(0, *(s if isinstance(s, int) else 0 for s in shape))
            fits = array.ndim == 1 + len(shape) and all(isinstance(s, str) or s == n for s, n in zip(shape, array.shape[1:], strict=False))
            if not fits:
                raise ValueError(f"{type(self).__name__}.{name} must have shape (rows, {', '.join(map(str, shape))}), got {array.shape}")
            lengths[name] = len(array)
            array = array.view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{type(self).__name__} columns differ in length: {lengths}")
        self.check()

    def check(self) -> None:
        """What must hold beyond shapes; ValueError if it does not."""
        if self.keys and len(self) and (repeated := self.first_repeated()) is not None:
            named = ", ".join(f"{key} {value or '(none)'}" for key, value in zip(self.keys, repeated, strict=True))
            raise ValueError(f"there is more than one row with {named}")

    def first_repeated(self) -> tuple[str, ...] | None:
        seen = set()
        for row in zip(*(getattr(self, key).tolist() for key in self.keys), strict=True):
            if row in seen:
                return row
            seen.add(row)
        return None

    @classmethod
    def columns(cls) -> Iterator[tuple[str, str, tuple[int | str, ...]]]:
        """(name, dtype, shape of a row) of every column."""
        for f in fields(cls):
            if "dtype" in f.metadata:
                yield f.name, f.metadata["dtype"], f.metadata["shape"]

    def __len__(self) -> int:
        return len(getattr(self, next(self.columns())[0]))

    def take(self, rows: Any) -> Self:
        """The same record with these rows (a slice, indices or a boolean mask), in that order."""
        chosen = {name: getattr(self, name)[rows] for name, _, _ in self.columns()}
        return type(self)(**chosen, **self.take_extra(rows))

    def take_extra(self, rows: Any) -> dict[str, Any]:
        return {}

    @classmethod
    def empty(cls) -> Self:
        rows = {name: (0, *(s if isinstance(s, int) else 0 for s in shape)) for name, _, shape in cls.columns()}
        return cls(**{name: np.empty(rows[name], dtype="U1" if dtype == "text" else dtype) for name, dtype, _ in cls.columns()})

    @classmethod
    def concat(cls, records: Sequence[Self]) -> Self:
        """Rows of all records, one after the other; empty list -> empty record."""
        filled = [record for record in records if len(record)] or list(records[:1])
        if not filled:
            return cls.empty()
        joined = {name: np.concatenate([getattr(r, name) for r in filled]) for name, _, _ in cls.columns()}
        return cls(**joined, **cls.concat_extra(filled))

    @classmethod
    def concat_extra(cls, records: Sequence[Self]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, eq=False, kw_only=True)
class Views(Record):
    """Ways of looking at images. ``frame`` maps the view's unit square to the image's (see geometry)."""

    image_id: Text = column("text")  # (V,)
    frame: NDArray[np.float64] = column("float64", 3, 3)  # (V, 3, 3)
    kind: Text = column("text")  # (V,) whole, turn90, flip, left, grid_1_2, ...
    confidence: Float = column("float32")  # (V,) 1 for planned views, the detector's for detected ones


@dataclass(frozen=True, eq=False, kw_only=True)
class Descriptors(Record):
    """One unit vector for every view."""

    image_id: Text = column("text")  # (V,)
    frame: NDArray[np.float64] = column("float64", 3, 3)  # (V, 3, 3)
    kind: Text = column("text")  # (V,)
    confidence: Float = column("float32")  # (V,)
    rows: Float = column("float32", "D")  # (V, D), unit norm

    def check(self) -> None:
        super().check()
        if self.rows.size and not np.allclose(np.linalg.norm(self.rows, axis=1), 1.0, atol=1e-3):
            raise ValueError("Descriptors.rows must have unit norm")


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictures(Record):
    """What is known of every good picture beside its keypoints. ``file_key`` and ``pixel_key`` are equal for equal content."""

    keys: ClassVar[tuple[str, ...]] = ("id",)
    id: Text = column("text")  # (N,)
    path: Text = column("text")  # (N,)
    width: NDArray[np.int64] = column("int64")  # (N,) pixels as decoded, upright
    height: NDArray[np.int64] = column("int64")  # (N,)
    file_key: Text = column("text")  # (N,) sha256 of the file
    pixel_key: Text = column("text")  # (N,) BLAKE2b of size and decoded pixels
    thumbnail: NDArray[np.uint8] = column("uint8", 768)  # (N, 768) 16 x 16 RGB means, aspect ignored
    keypoints: NDArray[np.int64] = column("int64")  # (N,) rows of Keypoints


@dataclass(frozen=True, eq=False, kw_only=True)
class Keypoints(Record):
    """Local features, a row each, the rows of one image side by side and in the order of Pictures."""

    image_id: Text = column("text")  # (K,)
    point: Float = column("float32", 2)  # (K, 2) x, y on the image's unit square
    size: Float = column("float32")  # (K,) diameter, as a share of the image's longer side
    angle: Float = column("float32")  # (K,) degrees clockwise from the x axis, [0, 360)
    rows: NDArray[np.uint8] = column("uint8", 128)  # (K, 128) RootSIFT: round(255 * sqrt(l1-normalised SIFT))


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates(Record):
    """Pairs worth judging. One row a pair; the frames say which view of the query met which view of the reference."""

    keys: ClassVar[tuple[str, ...]] = ("query_id", "reference_id")
    query_id: Text = column("text")  # (P,)
    reference_id: Text = column("text")  # (P,)
    similarity: Float = column("float32")  # (P,) bigger is closer; comparable within one source only
    source: Text = column("text")  # (P,) identical, votes, second votes, counts, crop_counts, neighbours, or several joined by "+"
    query_frame: NDArray[np.float64] = column("float64", 3, 3)  # (P, 3, 3)
    reference_frame: NDArray[np.float64] = column("float64", 3, 3)  # (P, 3, 3)


@dataclass(frozen=True, eq=False, kw_only=True)
class PairScores(Record):
    """What the scorers found. ``evidence`` holds named numbers (P,), NaN = that scorer did not look."""

    keys: ClassVar[tuple[str, ...]] = ("query_id", "reference_id")
    query_id: Text = column("text")  # (P,)
    reference_id: Text = column("text")  # (P,)
    frame: NDArray[np.float64] = column("float64", 3, 3)  # (P, 3, 3) query unit square -> reference unit square, NaN = none found
    patch_frame: NDArray[np.float64] = column("float64", 3, 3, default=None)  # (P, 3, 3) likewise, by patches alone; left out = NaN
    evidence: Mapping[str, Float] = field(default_factory=dict)  # "sift_inliers", "identical", ...

    def __post_init__(self) -> None:
        if self.patch_frame is None:
            object.__setattr__(self, "patch_frame", np.full(np.shape(self.frame), np.nan))
        object.__setattr__(self, "evidence", {name: np.asarray(v, dtype=np.float32) for name, v in self.evidence.items()})
        super().__post_init__()

    def check(self) -> None:
        super().check()
        if wrong := [name for name, v in self.evidence.items() if v.shape != (len(self),)]:
            raise ValueError(f"{type(self).__name__}.evidence has {wrong[0]} of another length than the pairs")

    def take_extra(self, rows: Any) -> dict[str, Any]:
        return {"evidence": {name: v[rows] for name, v in self.evidence.items()}}

    @classmethod
    def concat_extra(cls, records: Sequence[Self]) -> dict[str, Any]:
        names = dict.fromkeys(name for r in records for name in r.evidence)
        absent = [np.full(len(r), np.nan, dtype=np.float32) for r in records]
        return {"evidence": {n: np.concatenate([r.evidence.get(n, a) for r, a in zip(records, absent, strict=True)]) for n in names}}


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions(PairScores):
    """The answer: pairs with their probability of being a copy, and where."""

    score: NDArray[np.float64] = column("float64")  # (P,) ranks pairs across all queries; equals the probability
    probability: NDArray[np.float64] = column("float64")  # (P,) 0 to 1
    query_covered: Float = column("float32")  # (P,) share of the query that shows the reference, NaN = no frame
    reference_covered: Float = column("float32")  # (P,) share of the reference that the query shows
    flip: NDArray[np.bool_] = column("bool")  # (P,) the copy is mirrored

    def check(self) -> None:
        super().check()
        if len(self) and not ((self.probability >= 0) & (self.probability <= 1)).all():
            raise ValueError("Predictions.probability must lie between 0 and 1")


@dataclass(frozen=True, eq=False, kw_only=True)
class Errors(Record):
    """Items that could not be used, and why."""

    id: Text = column("text")  # (E,)
    path: Text = column("text")  # (E,)
    stage: Text = column("text")  # (E,) queries, references, pairs, describe, score, ...
    code: Text = column("text")  # (E,) one word, see errors.ImageError
    message: Text = column("text")  # (E,) one sentence

    @classmethod
    def of(cls, rows: Sequence[tuple[str, str, str, str, str]]) -> Self:
        """Rows of id, path, stage, code, message -> the record."""
        names = [name for name, _, _ in cls.columns()]
        columns: dict[str, Any] = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
        return cls(**columns) if rows else cls.empty()

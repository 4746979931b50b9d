"""What an index is, kept beside it as JSON, and what is refused before it is used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from matcher.errors import MatcherError, StaleStageError
from matcher.index_kinds import SIGNS
from matcher.settings import IndexSettings
from matcher.storage.sealed import read_sealed, write_sealed

CARD_FILE = "card.json"
SETTING = re.compile(r"'(\w+)': ([^,}]+)")  # in what says who made an index


@dataclass(frozen=True)
class Card:
    """What an index is: kept beside it as JSON, and compared before it is used."""

    made_by: str  # fingerprint of the model and settings that made the rows
    settings: IndexSettings
    stored: str  # the kind it really has: flat where there were too few rows
    dim: int
    dtype: str  # of the rows: float32 or uint8
    training: str  # SHA-256 of what was learnt; indexes with the same one can share lists

    @property
    def scale(self) -> float:
        """What an inner product of rows is divided by: uint8 rows are RootSIFT times 255."""
        return 255.0**2 if self.dtype == "uint8" else 1.0

    def similarity(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """What faiss measured (any shape) -> the similarity.

        Bits differ as often as a random direction separates two rows, so the cosine of the angle between them is that of pi times the
        share that differs (Charikar 2002). It is the angle seen from the rows' mean or their word: larger than that of whole rows.
        """
        if self.stored not in SIGNS:
            return found / np.float32(self.scale)
        return np.cos(np.float32(np.pi / self.settings.bits) * found) if self.settings.bits else np.ones_like(found)


def check_rows(rows: NDArray[Any], *, dim: int | None, dtype: str | None) -> None:
    """Nothing, or an error if these are not rows (N, D) of finite numbers, or not of the index's sort."""
    if rows.ndim != 2 or (rows.dtype != np.uint8 and rows.dtype.kind != "f"):
        raise ValueError(f"an index takes rows (N, D) of floats or uint8, got {rows.dtype} {rows.shape}")
    sort = "uint8" if rows.dtype == np.uint8 else "float32"
    if dim is not None and (rows.shape[1] != dim or sort != dtype):
        raise MatcherError(f"the index holds {dtype} rows of {dim} numbers, not {sort} rows of {rows.shape[1]}: another model made these")
    if sort == "float32" and not np.isfinite(rows).all():
        raise MatcherError("rows for an index must be finite, got NaN or infinity")


def check_numbers(ids: NDArray[Any]) -> NDArray[np.int64]:
    if ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0):
        raise ValueError(f"ids must be integers from 0 or texts, got {ids.dtype}, smallest {ids.min()}")
    return np.ascontiguousarray(ids, dtype=np.int64)


def check_same_maker(found: str, expected: str, what: str) -> None:
    if found != expected:
        was, now = (dict(SETTING.findall(text)) for text in (found, expected))
        changed = [f"{name}: was {was.get(name)}, now {now.get(name)}" for name in {**was, **now} if was.get(name) != now.get(name)]
        settings = [f"with other settings ({', '.join(changed)})"] if changed else []
        if was and now:  # what stands before the settings tells the rows: of which pictures, found how
            rows = ["from other pictures, or from keypoints of other settings"] if found.split(" ")[0] != expected.split(" ")[0] else []
        else:
            rows = [f"by {found}, not by {expected}"]
        raise StaleStageError(f"{what} was made {' and '.join([*rows, *settings])}: build it again")


def write_card(folder: Path, card: Card, *, rows: int, files: Sequence[str]) -> None:
    """Card, how many rows the index has, names of its files in the folder -> card.json, with their SHA-256."""
    checksums = {name: digest_file(folder / name) for name in files}
    write_sealed(
        folder / CARD_FILE,
        {**asdict(card), "settings": card.settings.identity, "rows": rows, "faiss": faiss.__version__, "sha256": checksums},
    )


AGAIN = "(delete this folder and run the command again)"  # what mends a damaged index


def read_card(folder: Path, remedy: str = AGAIN) -> tuple[Card, dict[str, str]]:
    """Folder -> its card, and the SHA-256 of its files by name."""
    if not (folder / CARD_FILE).is_file():
        raise MatcherError(f"there is no index in {folder} (no {CARD_FILE}): build it first")
    try:
        fields = read_sealed(folder / CARD_FILE)
        settings = IndexSettings(**fields["settings"])
        names = ("made_by", "stored", "dim", "dtype", "training")
        return Card(settings=settings, **{name: fields[name] for name in names}), dict(fields["sha256"])
    except (MatcherError, ValueError, KeyError, TypeError) as error:
        raise MatcherError(f"the index in {folder} is damaged: {CARD_FILE} cannot be read ({error}) {remedy}") from error


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

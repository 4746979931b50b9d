"""A folder of photos decoded once, as squares of one size that lie ready in memory: no training step waits for a decoder."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import tarfile
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from os import PathLike, cpu_count
from pathlib import Path, PurePosixPath
from typing import Self

import cv2
import numpy as np
import torch

from matcher.errors import PASSING, ImageError, MatcherError, UsageError
from matcher.images.decode import decode, load
from matcher.images.files import has_picture_suffix
from matcher.images.listing import list_folder
from matcher.settings import ImageSettings
from matcher.storage.aside import read_json, write_aside, write_json
from matcher.types import Errors

logger = logging.getLogger(__name__)
LOOK_ALIKES = 0.14  # graphics, logos and screenshots together, as a share of what is drawn: they make false negatives
DAMPING = 0.5  # a source with n photos is drawn n ** DAMPING times as often as one with a single photo
Entry = tuple[str, Callable[[], np.ndarray]]  # id, and how its pixels are had: (H, W, 3) uint8, or an ImageError


@dataclass(frozen=True, eq=False)
class PhotoBank:
    """Photos squashed to squares, and how often each should be drawn.

    Attributes:
        pixels: (N, 3, side, side) uint8 RGB
        aspect: (N,) float32, width / height before the squash
        ids: N names, paths inside the folder or the tar file
        group: (N,) int64, the source of each photo: an index of ``groups``
        groups: names of the sources; folders where no CSV names sources
        weight: (N,) float32, chances that add up to 1: torch.multinomial(bank.weight, ...)
        errors: pictures that could not be decoded and are left out
    """

    pixels: torch.Tensor
    aspect: torch.Tensor
    ids: tuple[str, ...]
    group: torch.Tensor
    groups: tuple[str, ...]
    weight: torch.Tensor
    errors: Errors

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def load(cls, photos: str | PathLike[str], *, side: int, cache: str | PathLike[str] | None) -> Self:
        """A folder of pictures (at any depth), or of .tar files of them -> the bank.

        A CSV in that folder or beside it with the columns file, source and (if known) kind gives the groups.

        Args:
            photos: the folder
            side: pixels that each photo is squashed to, both ways
            cache: folder in which the decoded pixels are kept, one file that is mapped into memory; None = memory only

        Raises:
            MatcherError: there is no such folder, or no picture in it that can be decoded
        """
        if side < 8:
            raise UsageError(f"side must be 8 pixels or more, not {side}")
        folder = existing(photos)
        if cache is None:
            pixels, notes = decode_all(folder, side)
            warn_of_errors(folder, notes["errors"])
            return cls.furnish(folder, torch.from_numpy(pixels[: len(notes["ids"])]), notes)
        place = Path(cache) / f"photos-{fingerprint(folder, side)}"
        if not place.with_suffix(".json").exists():
            store(folder, side, place)
        notes = read_json(place.with_suffix(".json"))
        warn_of_errors(folder, notes["errors"], f"; once they can be, remove {place}.json")
        mapped = np.load(place.with_suffix(".npy"), mmap_mode="c")
        return cls.furnish(folder, torch.from_numpy(mapped[: len(notes["ids"])]), notes)

    @classmethod
    def furnish(cls, folder: Path, pixels: torch.Tensor, notes: dict[str, list]) -> Self:
        """Decoded pixels and what was noted of them -> the bank with its groups and weights."""
        sources = read_sources(folder)
        rows = [sources.get(PurePosixPath(name).name, ("photo", str(PurePosixPath(name).parent))) for name in notes["ids"]]
        groups = tuple(sorted({source for _, source in rows}))
        number = {source: index for index, source in enumerate(groups)}
        return cls(
            pixels=pixels,
            aspect=torch.tensor(notes["aspect"], dtype=torch.float32),
            ids=tuple(notes["ids"]),
            group=torch.tensor([number[source] for _, source in rows], dtype=torch.int64),
            groups=groups,
            weight=torch.from_numpy(weigh([kind for kind, _ in rows], [source for _, source in rows])),
            errors=Errors.of([tuple(row) for row in notes["errors"]]),
        )

    @property
    def digest(self) -> str:
        """Names its photos, in their order: by ids, and by some of their pixels."""
        some = self.pixels[:, :, ::16, ::16].contiguous().cpu().numpy()
        return hashlib.sha256("\n".join([*self.ids, str(self.pixels.shape)]).encode() + some.tobytes()).hexdigest()[:16]

    def to(self, device: str | torch.device) -> Self:
        """The same bank with its tensors on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("pixels", "aspect", "group", "weight")}
        return replace(self, **moved)

    def take(self, rows: torch.Tensor) -> Self:
        """The bank of these rows (R,) int64; their weights add up to 1 again."""
        rows = rows.to(self.weight.device)
        weight = self.weight[rows]
        return replace(
            self,
            pixels=self.pixels[rows],
            aspect=self.aspect[rows],
            ids=tuple(self.ids[row] for row in rows.tolist()),
            group=self.group[rows],
            weight=weight / weight.sum(),
        )

    def without(self, names: Container[str]) -> Self:
        """The same bank, from which photos of these file names are never drawn. MatcherError if no others are left."""
        weight = self.weight * torch.tensor([PurePosixPath(name).name not in names for name in self.ids], device=self.weight.device)
        if not weight.any():
            raise MatcherError(f"all {len(self):,} photos are left out: none is left to draw")
        return replace(self, weight=weight / weight.sum())

    def split(self, share: float, seed: int) -> tuple[Self, Self]:
        """The bank without, and with only, a ``share`` of the photos drawn by ``seed``: (train, held_out)."""
        count = round(share * len(self))
        if not 0 < count < len(self):
            raise UsageError(f"a share of {share} of {len(self)} photos leaves one side empty")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.take(order[count:].sort().values), self.take(order[:count].sort().values)


def weigh(kinds: list[str], sources: list[str]) -> np.ndarray:
    """Kind and source of each photo -> chances (N,) float32: sources damped, all that are no photos at most LOOK_ALIKES."""
    pairs, member, count = np.unique([f"{k}\0{s}" for k, s in zip(kinds, sources, strict=True)], return_inverse=True, return_counts=True)
    weight = (count ** (DAMPING - 1.0))[member]
    is_photo = np.array([pair.startswith("photo\0") for pair in pairs])[member]
    photos, others = weight[is_photo].sum(), weight[~is_photo].sum()
    if photos > 0 and others > LOOK_ALIKES * (photos + others):
        weight[~is_photo] *= LOOK_ALIKES / (1 - LOOK_ALIKES) * photos / others
    return (weight / weight.sum()).astype(np.float32)


def read_sources(folder: Path) -> dict[str, tuple[str, str]]:
    """File name -> (kind, source), from every CSV in the folder or beside it that has these columns; what is no text is passed over."""
    found: dict[str, tuple[str, str]] = {}
    for path in [*sorted(folder.parent.glob("*.csv")), *sorted(folder.glob("*.csv"))]:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                if {"file", "source"} <= set(rows.fieldnames or ()):
                    found |= {row["file"]: (row.get("kind") or "photo", row["source"]) for row in rows if row["file"] and row["source"]}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            logger.warning("%s is not read for the sources of the photos: %s", path, error)
    return found


def existing(photos: str | PathLike[str]) -> Path:
    """A folder of photos -> its path. MatcherError if there is none."""
    folder = Path(photos)
    if not folder.is_dir():
        raise MatcherError(f"{folder}: there is no such folder of photos")
    return folder


def count_photos(photos: str | PathLike[str]) -> int:
    """A folder of pictures, or of .tar files of them -> how many there seem to be, by their names: nothing is decoded. MatcherError."""
    folder = existing(photos)
    if not (tars := sorted(folder.glob("*.tar"))):
        return len(list_folder(str(folder)).paths)
    count = 0
    for file in tars:
        with tarfile.open(file) as tar:
            count += sum(member.isfile() and has_picture_suffix(member.name) for member in tar)
    return count


def entries(folder: Path) -> Iterator[Entry]:
    """Every picture of the folder, or of the .tar files in it, in the order of their names."""
    tars = sorted(folder.glob("*.tar"))
    for file in tars:
        with tarfile.open(file) as tar:
            for member in tar:
                if member.isfile() and has_picture_suffix(member.name) and (inside := tar.extractfile(member)) is not None:
                    yield member.name, partial(decode, inside.read(), settings=ImageSettings(), name=member.name)
    if not tars:
        listing = list_folder(str(folder))
        yield from ((place, partial(refuse, error)) for place, _, error in listing.broken)
        for path in listing.paths:
            yield Path(path).relative_to(folder).as_posix(), partial(load, path, settings=ImageSettings())


def refuse(error: ImageError) -> np.ndarray:
    """Raise what is wrong with a file that cannot even be opened."""
    raise error


def fingerprint(folder: Path, side: int) -> str:
    """A key of what is decoded of the folder (names, sizes, times) and of the side."""
    files = sorted(folder.glob("*.tar")) or [Path(path) for path in list_folder(str(folder)).paths]
    there = [path for path in files if path.is_file()]
    rows = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in there]
    return hashlib.sha256(json.dumps([rows, side]).encode()).hexdigest()[:16]


def warn_of_errors(folder: Path, errors: list[list[str]], remedy: str = "") -> None:
    """Rows of Errors -> a warning if there are any; the remedy is for those that could not be read at that moment."""
    passing = any(code in PASSING for _, _, _, code, _ in errors)
    if errors:
        logger.warning("%d pictures of %s are left out, the first: %s%s", len(errors), folder, errors[0][-1], remedy if passing else "")


def store(folder: Path, side: int, place: Path) -> None:
    """Decode the folder into PLACE.npy and PLACE.json; the second appears last."""
    place.parent.mkdir(parents=True, exist_ok=True)
    pixels, notes = decode_all(folder, side)
    with write_aside(place.with_suffix(".npy")) as file:
        np.save(file, pixels[: len(notes["ids"])])
    write_json(place.with_suffix(".json"), notes)
    logger.info("%d photos of %s kept in %s.npy", len(notes["ids"]), folder, place)


def decode_all(folder: Path, side: int) -> tuple[np.ndarray, dict[str, list]]:
    """Pixels (>= N, 3, side, side) uint8, and ids, aspects and errors. MatcherError if nothing can be decoded."""
    notes: dict[str, list] = {"ids": [], "aspect": [], "errors": []}
    pixels = np.empty((1024, 3, side, side), dtype=np.uint8)
    for name, made in in_threads(entries(folder), side):
        if isinstance(made, ImageError):
            notes["errors"].append([name, str(folder), "photos", made.code, str(made)])
            continue
        if len(notes["ids"]) == len(pixels):
            pixels = np.concatenate([pixels, np.empty_like(pixels)])
        pixels[len(notes["ids"])], aspect = made
        notes["ids"].append(name)
        notes["aspect"].append(aspect)
    if not notes["ids"]:
        reason = f": {notes['errors'][0][4]}" if notes["errors"] else ""
        raise MatcherError(f"{folder}: no picture there that can be decoded{reason}")
    return pixels, notes


def in_threads(jobs: Iterator[Entry], side: int) -> Iterator[tuple[str, tuple[np.ndarray, float] | ImageError]]:
    """Each entry's name with its square and aspect, or its error, in order; a few are decoded ahead."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        waiting: list[tuple[str, Future]] = []
        for name, job in jobs:
            waiting.append((name, pool.submit(square, job, side)))
            if len(waiting) >= 256:
                yield from ((done, future.result()) for done, future in islice(waiting, 128))
                del waiting[:128]
        yield from ((done, future.result()) for done, future in waiting)


def square(job: Callable[[], np.ndarray], side: int) -> tuple[np.ndarray, float] | ImageError:
    """A picture squashed to (3, side, side) uint8 with width / height before, or the error."""
    try:
        picture = job()
    except ImageError as error:
        return error
    height, width = picture.shape[:2]
    way = cv2.INTER_AREA if min(height, width) >= side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side, side), interpolation=way)).transpose(2, 0, 1), width / height

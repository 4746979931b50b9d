"""The ways to keep keypoints that compare_codes.py compares: what each keeps, and how it ranks references."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tf_idf import TfIdf

from matcher.features import FeatureSet
from matcher.index import INDEX_FILE, Index
from matcher.index_lists import IDS_FILE, LIST_FILES
from matcher.models.sift import LocalFeatures
from matcher.settings import IndexSettings, ShortlistSettings
from matcher.shortlist.votes import agree_on, cast, heaviest

DEPTH = 100  # candidates of a query
PROBES = 2  # as experiments/run/keypoints.yaml looks up its neighbours
CLOSER = 16  # lists looked at where the search should be all but exact
BITS = 64  # of a keypoint beside its word


@dataclass(frozen=True)
class Code:
    """A way to keep keypoints. ``words`` = size of the vocabulary; ``tf_idf`` = no places are kept and nothing is tested for agreement."""

    name: str
    family: str
    index: IndexSettings
    words: int = 0
    tf_idf: bool = False
    exact: bool = False  # so slow that it is timed on a few queries
    neighbours: int = 5  # of a keypoint: codes blur distances, so that the right one may not be among the first


@dataclass(frozen=True)
class Built:
    """What a code keeps of the references: an index, or word counts, and what that takes."""

    keeps: Index | TfIdf
    settings: IndexSettings
    seconds: float  # to build it
    picture_bytes: float  # for each reference
    id_bytes: float  # of these, those that say whose row it is
    place_bytes: float  # for each reference beside these: places, sizes and angles of keypoints, where they are looked at
    shared_bytes: int  # centroids, codebooks and thresholds, however many references there are


def list_codes(vocabularies: Sequence[int]) -> list[Code]:
    """Sizes of vocabularies -> everything that is compared."""
    codes = [
        Code("fp16", "rows", IndexSettings(kind="fp16", gpu="no"), exact=True),
        Code(f"ivf, {CLOSER} probes", "rows", lists("ivf", probes=CLOSER)),
        Code(f"ivf, {PROBES} probes", "rows", lists("ivf")),
        *(Code(f"ivfpq, {size} bytes", "product codes", lists("ivfpq", code_bytes=size)) for size in (32, 16, 8)),
        *(Code(f"binary, {bits} bits", "sign bits", lists("binary", bits=bits)) for bits in (256, 128, 64)),
        Code("binary, 128 bits, wider", "sign bits", lists("binary", bits=128, probes=2 * PROBES, on_disk=True), neighbours=10),
    ]
    for count in vocabularies:
        alone, signed = (lists("words", lists=count, bits=bits) for bits in (0, BITS))
        codes += [
            Code(f"{count:,} words, {BITS} bits", "words and bits", signed, words=count),
            Code(f"{count:,} words", "words", alone, words=count),
            Code(f"{count:,} words, tf-idf", "tf-idf", alone, words=count, tf_idf=True),
        ]
    return codes


def lists(kind: Any, **more: Any) -> IndexSettings:
    return IndexSettings(**{"kind": kind, "probes": PROBES, "gpu": "no"} | more)


def build(code: Code, references: FeatureSet, words: NDArray[np.float32] | None, before: Built | None) -> Built:
    """References and, for codes of words, the vocabulary (W, 128) -> what the code keeps; bytes are those of its files.

    ``before`` is what was built last: where it is the index that the code needs, it is not built again.
    """
    rows, points = references.keypoints.rows, references.keypoints
    started, pictures = time.thread_time(), max(len(references), 1)
    again = before is not None and before.settings == code.index and isinstance(before.keeps, Index)
    index = before.keeps if again else Index.build(rows, np.arange(len(rows)), code.index, made_by="compare_codes", words=words)
    seconds = time.thread_time() - started + (before.seconds if again else 0.0)
    if code.tf_idf:
        started = time.thread_time()
        counted = TfIdf.build(index, references)
        seconds += time.thread_time() - started
        ids = counted.picture.nbytes / pictures
        return Built(counted, code.index, seconds, counted.nbytes / pictures, ids, 0, words.nbytes)
    (whole, ids), (empty, _) = file_bytes(index), file_bytes(index.emptied())
    places = sum(array.nbytes for array in (points.point, points.size, points.angle)) / pictures
    return Built(index, code.index, seconds, (whole - empty) / pictures, ids / pictures, places, empty)


def file_bytes(index: Index) -> tuple[int, int]:
    """How large the files of an index are, and how much of that are ids."""
    with TemporaryDirectory() as folder:
        index.save(folder)
        sizes = {name: (Path(folder) / name).stat().st_size for name in (INDEX_FILE, *LIST_FILES) if (Path(folder) / name).is_file()}
    return sum(sizes.values()), sizes.get(IDS_FILE, index.ids().nbytes)


def rank(built: Built, query: LocalFeatures, references: FeatureSet, settings: ShortlistSettings) -> tuple[list[int], float]:
    """Query keypoints -> rows of references, best first, DEPTH at most, and the seconds of it that looking up took."""
    if isinstance(built.keeps, TfIdf):
        started = time.thread_time()
        found = built.keeps.rank(query.first(settings.keypoints), DEPTH)
        return found, time.thread_time() - started
    return rank_by_votes(built.keeps, query.first(settings.keypoints), references, settings)


def rank_by_votes(index: Index, query: LocalFeatures, references: FeatureSet, settings: ShortlistSettings) -> tuple[list[int], float]:
    """As shortlist.votes.vote ranks; behind the references whose votes are tested come those with the heaviest votes."""
    best: dict[int, tuple[float, float]] = {}
    looking = 0.0
    for side in (query, query.mirrored):
        started = time.thread_time()
        votes = cast(side, references, index, settings)
        looking += time.thread_time() - started
        for place, (reference, own) in enumerate(heaviest(votes, DEPTH)):
            agreed = agree_on(side, references, reference, own, settings) if place < settings.tried else 0.0
            best[reference] = max(best.get(reference, (0.0, 0.0)), (agreed, float(own.weight.sum())))
    ranked = sorted(best, key=lambda reference: (*(-part for part in best[reference]), reference))
    return ranked[:DEPTH], looking

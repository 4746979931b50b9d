"""Pictures as counts of visual words, ranked by the cosine of their tf-idf vectors (Sivic and Zisserman 2003). No geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matcher.features import FeatureSet
from matcher.index import Index
from matcher.models.sift import LocalFeatures
from matcher.visual_words import stored_words, words_of


@dataclass(frozen=True)
class TfIdf:
    """An inverted file: for every word the pictures that hold it, and how often. A weight is count * log(pictures / pictures with it)."""

    index: Index  # says which word a keypoint is
    start: NDArray[np.int64]  # (W + 1,) where the entries of each word begin
    picture: NDArray[np.int32]  # (E,) rows of the references
    count: NDArray[np.uint8]  # (E,) at most 255
    norm: NDArray[np.float32]  # (R,) of the references' vectors, 1 where there is nothing

    @classmethod
    def build(cls, index: Index, references: FeatureSet) -> Self:
        """An index of words over all reference keypoints, and their owners -> counts."""
        ids, words = stored_words(index)
        entries, count = np.unique(words * len(references) + references.owner(ids), return_counts=True)
        word, picture = np.divmod(entries, max(len(references), 1))
        start = np.searchsorted(word, np.arange(index.inverted_file.nlist + 1))
        count = np.minimum(count, 255).astype(np.uint8)
        idf = np.repeat(rarity(start, len(references)), np.diff(start))
        squared = np.bincount(picture, weights=(count * idf) ** 2, minlength=len(references))
        norm = np.sqrt(np.where(squared > 0, squared, 1)).astype(np.float32)
        return cls(index, start, picture.astype(np.int32), count, norm)

    @property
    def nbytes(self) -> int:
        """What the references take; the words' centroids and places of their entries are shared by all."""
        return self.picture.nbytes + self.count.nbytes + self.norm.nbytes

    def rank(self, query: LocalFeatures, depth: int) -> list[int]:
        """Keypoints -> rows of references with a word in common, best first: the better cosine of the picture and its mirror image."""
        cosine = np.maximum(*(self.cosines(side) for side in (query, query.mirrored)))
        best = np.argsort(-cosine, kind="stable")[:depth]
        return best[cosine[best] > 0].tolist()

    def cosines(self, query: LocalFeatures) -> NDArray[np.float64]:
        """Keypoints -> cosines of the picture's tf-idf vector with those of all references (R,), 0 to 1."""
        word, count = np.unique(words_of(self.index, query.rows), return_counts=True)
        idf = rarity(self.start, len(self.norm))[word]
        lengths = np.diff(self.start)[word]
        entry = np.repeat(self.start[word] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        products = self.count[entry] * np.repeat(count * idf**2, lengths)
        own = np.linalg.norm(count * idf)
        return np.bincount(self.picture[entry], weights=products, minlength=len(self.norm)) / (self.norm * (own or 1))


def rarity(start: NDArray[np.int64], pictures: int) -> NDArray[np.float64]:
    """Where the entries of each word begin (W + 1,) -> its idf (W,), 0 where no picture holds it."""
    holders = np.diff(start)
    return np.where(holders > 0, np.log(pictures / np.maximum(holders, 1)), 0.0)

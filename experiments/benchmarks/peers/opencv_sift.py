"""Peer: the pipeline that a user writes in ten minutes with OpenCV and faiss, in one plain Python loop.

SIFT of both sides, RootSIFT, all reference descriptors in one inverted-list index. Every descriptor of the query and of
the mirrored query votes for its nearest neighbour's reference; the references with most votes are matched one by one
with the ratio test, and the inliers of an affine RANSAC are the score. OpenCV and faiss use their threads as they come.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import faiss
import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray

KEYPOINTS = 600
SHORT_SIDE = 300
TRAINING_ROWS = 40  # a list; faiss asks for at least 39
PROBES = 8
VERIFIED = 10  # references matched for a query
RATIO = 0.8

Float = NDArray[np.float32]
Features = tuple[Float, Float]  # points (K, 2) in pixels, RootSIFT rows (K, 128)


def list_pictures(folder: str) -> list[Path]:
    """A folder -> its files in order of name."""
    return sorted(path for path in Path(folder).iterdir() if path.is_file())


def read_grey(path: Path) -> cv2.typing.MatLike:
    """A file -> grey picture (H, W) uint8 whose short side is SHORT_SIDE pixels."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise SystemExit(f"{path} is no picture that OpenCV reads")
    scale = SHORT_SIDE / min(grey.shape[:2])
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def extract(sift: cv2.SIFT, grey: cv2.typing.MatLike) -> Features:
    """A grey picture -> keypoints and their RootSIFT descriptors (Arandjelovic and Zisserman, 2012)."""
    keypoints, rows = sift.detectAndCompute(grey, None)
    if rows is None:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    rows = np.sqrt(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-7))
    return np.array([keypoint.pt for keypoint in keypoints], np.float32), rows


def build_index(rows: Float) -> faiss.IndexIVFFlat:
    """All reference descriptors (K, 128) -> inverted lists, about 4 * sqrt(K) of them, trained on a sample."""
    lists = max(1, min(int(4 * np.sqrt(len(rows))), len(rows) // TRAINING_ROWS))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(128), 128, lists)
    sample = np.random.default_rng(0).permutation(len(rows))[: TRAINING_ROWS * lists]
    index.train(rows[sample])
    index.add(rows)
    index.nprobe = PROBES
    return index


def count_inliers(matcher: cv2.BFMatcher, query: Features, reference: Features) -> int:
    """Two pictures' features -> ratio-test matches that agree with one affine map; 0 = none found."""
    if len(query[1]) < 2 or len(reference[1]) < 2:
        return 0
    pairs = [best for best, second in matcher.knnMatch(query[1], reference[1], k=2) if best.distance < RATIO * second.distance]
    if len(pairs) < 3:
        return 0
    source, target = query[0][[m.queryIdx for m in pairs]], reference[0][[m.trainIdx for m in pairs]]
    affine, inliers = cv2.estimateAffine2D(source, target, method=cv2.RANSAC)
    return 0 if affine is None else int(inliers.sum())


def main(queries: str, references: str, output: str) -> None:
    """Write the references that share keypoints with every query.

    Args:
        queries: folder of pictures
        references: folder of pictures
        output: CSV with query_id,reference_id,score; the score is the count of inliers
    """
    sift, matcher = cv2.SIFT.create(nfeatures=KEYPOINTS), cv2.BFMatcher(cv2.NORM_L2)
    reference_paths = list_pictures(references)
    reference_features = [extract(sift, read_grey(path)) for path in reference_paths]
    owners = np.repeat(np.arange(len(reference_paths)), [len(rows) for _, rows in reference_features])
    index = build_index(np.concatenate([rows for _, rows in reference_features]))
    with open(output, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query_id", "reference_id", "score"])
        for path in list_pictures(queries):
            grey = read_grey(path)
            sides = [extract(sift, grey), extract(sift, cv2.flip(grey, 1))]
            rows = np.concatenate([rows for _, rows in sides])
            nearest = index.search(rows, 1)[1][:, 0] if len(rows) else np.empty(0, np.int64)
            votes = np.bincount(owners[nearest[nearest >= 0]], minlength=len(reference_paths))
            for row in np.argsort(-votes, kind="stable")[:VERIFIED].tolist():
                inliers = max(count_inliers(matcher, side, reference_features[row]) for side in sides)
                if inliers:
                    writer.writerow([path.stem, reference_paths[row].stem, inliers])


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

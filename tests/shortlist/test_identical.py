import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from matcher.features import thumbnail
from matcher.shortlist.identical import CLOSE, near_thumbnails, same_content
from matcher.types import Pictures


def described(thumbnails, file_keys=None, pixel_keys=None):
    count = len(thumbnails)
    ids = [f"p{n}" for n in range(count)]
    unknown = [f"{np.asarray(t).tobytes().hex()[:6]}{n}" for n, t in enumerate(thumbnails)]
    return Pictures(
        id=ids,
        path=ids,
        width=np.full(count, 10),
        height=np.full(count, 10),
        file_key=file_keys or unknown,
        pixel_key=pixel_keys or unknown,
        thumbnail=np.array(thumbnails, dtype=np.uint8).reshape(-1, 768),
        keypoints=np.zeros(count),
    )


def plain(*levels):
    return [np.full(768, level) for level in levels]


@settings(max_examples=40, deadline=None)
@given(*[st.lists(st.sampled_from("abcd"), min_size=4, max_size=4) for _ in range(4)])
def test_same_content_agrees_with_a_slow_loop(query_files, query_pixels, reference_files, reference_pixels):
    queries = described(plain(1, 2, 3, 4), query_files, query_pixels)
    references = described(plain(1, 2, 3, 4), reference_files, reference_pixels)
    slow = [(q, r) for q in range(4) for r in range(4) if query_files[q] == reference_files[r] or query_pixels[q] == reference_pixels[r]]
    assert same_content(queries, references) == slow


def test_exact_duplicates_among_the_references_are_all_found():
    assert same_content(described(plain(1), ["x"], ["y"]), described(plain(1, 2, 3), ["x", "x", "z"], ["y", "y", "y"])) == [
        (0, 0),
        (0, 1),
        (0, 2),
    ]
    assert same_content(Pictures.empty(), described(plain(1))) == [] == same_content(described(plain(1)), Pictures.empty())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_near_thumbnails_agree_with_a_slow_loop(seed, most):
    rng = np.random.default_rng(seed)
    base = rng.integers(20, 230, (3, 768))
    references = [np.clip(base[n % 3] + rng.normal(0, 1 + n, 768), 0, 255).astype(np.uint8) for n in range(8)]
    queries = [np.clip(base[n % 3] + rng.normal(0, 1, 768), 0, 255).astype(np.uint8) for n in range(4)]
    slow = []
    for q, query in enumerate(queries):
        apart = [float(np.sqrt(np.mean((query.astype(float) - reference) ** 2))) for reference in references]
        assume(min(abs(distance - CLOSE) for distance in apart) > 1e-2 and np.diff(sorted(apart)).min() > 1e-3)  # single precision
        slow += [(q, r) for r in sorted(range(8), key=apart.__getitem__)[:most] if apart[r] < CLOSE]
    assert near_thumbnails(described(queries), described(references), most=most) == slow


def test_at_most_so_many_the_closest_first():
    found = near_thumbnails(described(plain(100)), described(plain(104, 99, 100, 102, 200)), most=3)
    assert found == [(0, 2), (0, 1), (0, 3)]
    assert near_thumbnails(Pictures.empty(), described(plain(1))) == [] == near_thumbnails(described(plain(1)), Pictures.empty())


def test_many_references_are_compared_part_by_part(monkeypatch):
    references, queries = described(plain(*[100, 101, 99, 200] * 5)), described(plain(100, 50))
    whole = near_thumbnails(queries, references, most=7)
    assert [r for _, r in whole] == [0, 4, 8, 12, 16, 1, 2]
    monkeypatch.setattr("matcher.shortlist.identical.CHUNK", 3)
    assert near_thumbnails(queries, references, most=7) == whole


@pytest.mark.parametrize("edit", ["jpeg 30", "half", "double"])
def test_resaved_and_resized_pictures_are_near_and_others_are_not(pictures, edit):
    def edited(image):
        picture = Image.fromarray(image)
        if edit == "jpeg 30":
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=30)
            return np.asarray(Image.open(buffer))
        scale = 0.5 if edit == "half" else 2
        return np.asarray(picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS))

    images = list(pictures.values())
    queries = described([thumbnail(edited(image)) for image in images])
    found = near_thumbnails(queries, described([thumbnail(image) for image in images]))
    assert found == [(n, n) for n in range(len(images))]

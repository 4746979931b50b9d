import base64
import hashlib
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matcher import geometry
from matcher.errors import MatcherError, UsageError
from matcher.images.table import ImageSet
from matcher.metrics.evaluation import evaluate
from matcher.metrics.truth import GroundTruth
from matcher.report.page import write_report
from matcher.types import Predictions

VOID = {"meta", "input", "br", "link", "img"}
HOSTILE = ["<script>alert(1)</script>", "\"' onload=alert(1) x='", "</script><b>&amp;", "{{ 7 * 7 }}", "line\nbreak", "\udcff"]


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), texts by the tag they stand in; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag and (not kind or kind in (attrs.get("class") or "").split())]

    def words(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style")).replace("\N{NO-BREAK SPACE}", " ")


def paint(folder: Path, side: str, ids: list[str], *, size: tuple[int, int] = (300, 200)) -> ImageSet:
    """Noise pictures 0.png, 1.png, ... under a folder, as an image set with these ids."""
    (folder / side).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(side))
    paths = [folder / side / f"{i}.png" for i in range(len(ids))]
    for path in paths:
        small = Image.fromarray(random.integers(0, 255, (6, 9, 3), dtype=np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(path)
    zeros = np.zeros(len(ids), dtype=np.int64)
    return ImageSet(id=np.array(ids, dtype=str), path=np.array([str(path) for path in paths], dtype=str), bytes=zeros, mtime_ns=zeros)


def predict(
    pairs: list[tuple[str, str]], probability: list[float], frames: list[np.ndarray] | None = None, **evidence: list[float]
) -> Predictions:
    stack = np.array(frames if frames is not None else [np.eye(3)] * len(pairs)).reshape(-1, 3, 3)
    known = [np.isfinite(frame).all() for frame in stack]
    return Predictions(
        query_id=np.array([query for query, _ in pairs], dtype=str),
        reference_id=np.array([reference for _, reference in pairs], dtype=str),
        frame=stack,
        score=probability,
        probability=probability,
        query_covered=[geometry.covered_share(geometry.invert(f)) if ok else np.nan for f, ok in zip(stack, known, strict=True)],
        reference_covered=[geometry.covered_share(f) if ok else np.nan for f, ok in zip(stack, known, strict=True)],
        flip=[bool(ok and geometry.is_mirrored(f)) for f, ok in zip(stack, known, strict=True)],
        evidence=evidence,
    )


def read_page(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def truth_of(pairs: list[tuple[str, str]]) -> GroundTruth:
    return GroundTruth(query_id=np.array([q for q, _ in pairs], dtype=str), reference_id=np.array([r for _, r in pairs], dtype=str))


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[ImageSet, ImageSet]:
    return paint(tmp_path, "queries", ["q1", "q2", "q3"]), paint(tmp_path, "references", ["r1", "r2"])


THREE = [("q1", "r1"), ("q2", "r1"), ("q3", "r2")]


def test_every_prediction_has_a_card_with_both_pictures(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    predictions = predict(THREE, [0.5, 0.997, 0.02], sift_inliers=[20, 143, np.nan])
    path = write_report(tmp_path / "new folder" / "report.html", predictions, *pictures, facts={"queries": 3, "read_seconds": 1.25})
    page = Page(path.read_text("utf-8"))
    assert path == tmp_path / "new folder" / "report.html"
    assert [card["data-query"] for card in page.all("article")] == ["q2", "q1", "q3"]
    assert len(page.all("svg", "picture")) == 6
    assert len(page.all("image")) == 5  # r1 is embedded once and shown twice
    assert "99.7 %" in page.words() and "143 matching keypoints agree" in page.words() and "read seconds" in page.words()
    assert not page.all("span", "badge") and "Missed" not in page.words()


def test_shown_pictures_and_marks_are_on_the_page(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    page = read_page(write_report(tmp_path / "r.html", predict(THREE, [0.5, 0.6, 0.7]), *pictures))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in page.all("use")} <= {f"#{name}" for name in ids}


def test_thumbnails_are_small_pictures_of_the_right_shape(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    page = read_page(write_report(tmp_path / "r.html", predict(THREE, [0.5, 0.6, 0.7]), *pictures))
    for attrs in page.all("image"):
        head, _, data = (attrs["href"] or "").partition(",")
        assert head == "data:image/jpeg;base64" and len(data) < 16_000
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (int(attrs["width"] or 0), int(attrs["height"] or 0)) == (224, 149)


def test_outlines_lie_where_the_frame_says(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    predictions = predict([("q1", "r1")], [0.9], [geometry.from_box(0.25, 0.0, 0.75, 1.0)])
    page = read_page(write_report(tmp_path / "r.html", predictions, *pictures))
    assert [path["d"] for path in page.all("path", "line")] == ["M0,0 224,0 224,149 0,149Z", "M56,0 168,0 168,149 56,149Z"]
    assert "shows 50 % of the reference, on all of the query" in page.words()


def test_what_a_pair_model_found_is_dashed(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    keypoints, learned = geometry.from_box(0.25, 0.0, 0.75, 1.0), geometry.from_box(0.5, 0.5, 1.0, 1.0)
    predictions = predict(THREE, [0.9, 0.8, 0.7], [keypoints, learned, keypoints], pair_logit=[3.0, 2.0, 1.0])
    told = [learned, learned, np.full((3, 3), np.nan)]
    page = read_page(write_report(tmp_path / "r.html", replace(predictions, patch_frame=told), *pictures))
    lines = [(path["class"], sorted((path["d"] or "").strip("MZ").split())) for path in page.all("path", "line")]
    corners = ("0,0 224,0 224,149 0,149", "56,0 168,0 168,149 56,149", "112,74.5 224,74.5 224,149 112,149")
    whole, left, right = (sorted(points.split()) for points in corners)
    solid, dashed = [("line", whole), ("line", left)], [("line learned", whole), ("line learned", right)]
    assert lines == [solid[0], dashed[0], solid[1], dashed[1], *dashed, *solid]
    assert "A dashed outline is what the pair model found" in page.words()
    assert "the region is that of the pair model" in page.words() and "the pair model takes it for a copy" in page.words()
    plain = read_page(write_report(tmp_path / "p.html", predictions, *pictures))
    assert "dashed" not in plain.words() and not plain.all("path", "learned")


def test_a_mirrored_copy_is_said_in_words(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    page = read_page(write_report(tmp_path / "r.html", predict([("q1", "r1")], [0.9], [geometry.flip()]), *pictures))
    assert "mirrored left to right" in page.words()


def test_names_and_texts_are_escaped(tmp_path: Path) -> None:
    queries, references = paint(tmp_path, "queries", HOSTILE), paint(tmp_path, "references", HOSTILE)
    pairs = [(name, name) for name in HOSTILE]
    predictions = predict(pairs, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], **{"<i>": [1.0] * 6})
    truth = truth_of([(name, HOSTILE[(i + 1) % len(HOSTILE)]) for i, name in enumerate(HOSTILE)])
    text = write_report(tmp_path / "r.html", predictions, queries, references, truth=truth, facts={"<u>": HOSTILE[0]}).read_text("utf-8")
    page = Page(text)
    assert len(page.all("script")) == 2 and not page.all("b") and not page.all("u")
    assert all("aria-hidden" in attrs for attrs in page.all("i"))
    assert "onload" not in {name for _, attrs in page.elements for name in attrs}
    shown = [card["data-query"] for card in page.all("article")]
    assert set(shown) == {*HOSTILE[:-1], "\\udcff"}
    assert "{{ 7 * 7 }}" in text and "<i> = 1" in page.words()
    assert json.loads(next(data for tag, data in page.texts if tag == "script"))["true_pairs"] == 6


def test_pictures_paths_are_escaped(tmp_path: Path) -> None:
    name = "\"><script>alert('x')</script>.png"
    folder = tmp_path / "queries"
    folder.mkdir()
    awkward = folder / name.replace("/", "")
    Image.new("RGB", (40, 30), "red").save(awkward)
    queries = ImageSet(id=np.array(["q"]), path=np.array([str(awkward)]), bytes=[0], mtime_ns=[0])
    page = read_page(write_report(tmp_path / "r.html", predict([("q", "r1")], [0.5]), queries, paint(tmp_path, "references", ["r1"])))
    assert len(page.all("script")) == 2
    assert str(awkward) in [caption.get("title") for caption in page.all("figcaption")]


def test_the_page_needs_nothing_from_outside(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    predictions, truth = predict(THREE, [0.9, 0.6, 0.7]), truth_of([("q1", "r1"), ("q2", "")])
    evaluation = evaluate(predictions, truth, resamples=20)
    text = write_report(tmp_path / "r.html", predictions, *pictures, truth=truth, evaluation=evaluation).read_text("utf-8")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", re.sub(r'xmlns="[^"]*"', "", text))
    page = Page(text)
    assert not page.all("link") and not page.all("img") and not page.all("iframe") and not [a for a in page.all("script") if "src" in a]
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") or name == "style" for name in attrs)]
    policy = next(meta["content"] or "" for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy


def test_the_policy_allows_the_style_and_the_script_of_the_page(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    text = write_report(tmp_path / "r.html", predict(THREE, [0.9, 0.6, 0.7]), *pictures).read_text("utf-8")
    for tag, policy in (("style", "style-src"), ("script", "script-src")):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{policy} 'sha256-{digest}'" in html.unescape(text)


def test_pictures_that_cannot_be_read_give_their_reason(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    queries, references = pictures
    Path(queries.path[0]).unlink()
    Path(queries.path[1]).write_bytes(b"no picture at all")
    page = read_page(write_report(tmp_path / "r.html", predict([*THREE, ("gone", "r1")], [0.5, 0.6, 0.7, 0.8]), queries, references))
    assert len(page.all("div", "unreadable")) == 3
    assert len(page.all("article")) == 4 and len(page.all("svg", "picture")) == 5
    reasons = page.words()
    assert "not among the pictures" in reasons and "0.png" in reasons and "1.png" in reasons


def test_no_predictions(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    page = read_page(write_report(tmp_path / "r.html", Predictions.empty(), *pictures))
    assert not page.all("article") and "No predictions." in page.words()
    page = read_page(write_report(tmp_path / "r.html", Predictions.empty(), *pictures, truth=truth_of([("q1", "r1")])))
    assert len(page.all("article", "missed")) == 1 and "never predicted" in page.words()


def test_a_truth_marks_right_wrong_and_missed(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    predictions = predict([*THREE, ("q1", "r2")], [0.9, 0.8, 0.1, 0.05])
    truth = truth_of([("q1", "r1"), ("q2", "r2"), ("q3", "r2")])
    evaluation = evaluate(predictions, truth, resamples=20)
    page = read_page(write_report(tmp_path / "r.html", predictions, *pictures, truth=truth, evaluation=evaluation))
    kinds = {(card["data-query"], card["data-reference"]): (card["class"] or "").split()[1:] for card in page.all("article")}
    assert kinds == {
        ("q1", "r1"): ["right"],
        ("q2", "r1"): ["wrong"],
        ("q1", "r2"): ["wrong"],
        ("q3", "r2"): ["right", "missed"],  # below the threshold, 0.9
        ("q2", "r2"): ["right", "missed"],  # never predicted
    }
    words = page.words()
    assert "truth: r2" in words and "never predicted" in words and "Missed true pairs" in words
    assert page.all("svg", "curve") and f"{evaluation.micro_ap.value:.4f}" in words and "recall at p90" in words
    counts = json.loads(next(data for tag, data in page.texts if tag == "script"))
    step = counts["thresholds"].index(0.9)
    assert (counts["right"][step], counts["wrong"][step], counts["true_pairs"]) == (1, 0, 3)


def test_both_references_of_a_query_say_where_the_other_is(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    left, right = (geometry.invert(geometry.from_box(*box)) for box in ((0, 0, 0.5, 1), (0.5, 0, 1, 1)))
    predictions = predict([("q1", "r1"), ("q1", "r2"), ("q2", "r1"), ("q2", "r2")], [0.9, 0.8, 0.7, 0.6], [left, right, left, left])
    truth = truth_of([("q1", "r1"), ("q1", "r2"), ("q2", "r1"), ("q3", "r1"), ("q3", "r2")])
    page = read_page(write_report(tmp_path / "r.html", predictions, *pictures, truth=truth, evaluation=evaluate(predictions, truth)))
    assert [line["d"] for line in page.all("path", "line") if (line["d"] or "").endswith("Z")][:4] == [
        "M0,0 112,0 112,149 0,149Z",
        "M0,0 224,0 224,149 0,149Z",
        "M112,0 224,0 224,149 112,149Z",
        "M0,0 224,0 224,149 0,149Z",
    ]
    told = [text for tag, text in page.texts if tag == "li" and "also shows" in text.replace("\N{NO-BREAK SPACE}", " ")]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in told] == [
        "the query also shows r2 (80.0 %, elsewhere)",
        "the query also shows r1 (90.0 %, elsewhere)",
        "the query also shows r2 (60.0 %)",
        "the query also shows r1 (70.0 %)",
    ]
    assert "recall of sources" in page.words() and "truth: r1" in page.words()


def test_a_limit_keeps_the_best_of_each_query_and_says_what_is_left_out(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    predictions = predict([("q1", "r1"), ("q1", "r2"), ("q2", "r1"), ("q3", "r1")], [0.9, 0.4, 0.7, 0.1])
    page = read_page(write_report(tmp_path / "r.html", predictions, *pictures, limit=3))
    assert [(card["data-query"], card["data-reference"]) for card in page.all("article")] == [("q1", "r1"), ("q2", "r1"), ("q3", "r1")]
    assert "4 predictions for 3 queries; 3 of them are shown" in page.words() and "1 left out" in page.words()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    predictions, truth = predict(THREE, [0.9, 0.9, 0.7], cosine=[0.1, 0.2, 0.3]), truth_of([("q1", "r1"), ("q2", "")])
    first = write_report(tmp_path / "a.html", predictions, *pictures, truth=truth, facts={"version": "1"})
    second = write_report(tmp_path / "b.html", predictions.take([2, 0, 1]), *pictures, truth=truth, facts={"version": "1"})
    assert first.read_bytes() == second.read_bytes()


def test_a_prediction_takes_less_than_15_kilobytes(tmp_path: Path) -> None:
    ids = [str(i) for i in range(20)]
    queries, references = paint(tmp_path, "queries", ids, size=(320, 240)), paint(tmp_path, "references", ids, size=(320, 240))
    pairs = list(zip(ids, ids, strict=True))
    predictions = predict(pairs, [0.5] * 20, sift_inliers=[9] * 20, sift_inlier_ratio=[0.5] * 20, sift_agreement=[0.9] * 20)
    path = write_report(tmp_path / "r.html", predictions, queries, references)
    assert path.stat().st_size < 20 * 15_000


def test_mistakes_are_told_in_one_line(tmp_path: Path, pictures: tuple[ImageSet, ImageSet]) -> None:
    with pytest.raises(UsageError, match="limit must be 0 or more, got -1"):
        write_report(tmp_path / "r.html", Predictions.empty(), *pictures, limit=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(MatcherError, match="cannot make the folder"):
        write_report(tmp_path / "file" / "r.html", Predictions.empty(), *pictures)

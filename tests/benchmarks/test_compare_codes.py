"""The comparison of keypoint codes on a small set: every code has its row, costs are those of its files, and nothing is done twice."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matcher import pipeline, workshop
from matcher.errors import UsageError
from matcher.features import FeatureSet, join
from matcher.index import Index
from matcher.models.sift import LocalFeatures
from matcher.settings import IndexSettings
from matcher.types import Pictures

SCRIPTS = Path(__file__).parents[2] / "experiments" / "keypoint_codes"
CODES = ("fp16", "ivf, 2 probes", "binary, 128 bits", "40 words", "40 words, 64 bits", "40 words, tf-idf")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """compare_codes.py, imported as its command imports it, forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("compare_codes")
    for name in ("compare_codes", "measuring", "codes", "tf_idf"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def compared(script: ModuleType, photos: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("codes")
    (folder / "photos").mkdir()
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / "photos" / f"{name}.png", compress_level=1)
    made = folder / "made"
    sizes = {"queries": 8, "references": 10, "max_side": 256, "reference_side": 192}
    workshop.synthesize(folder / "photos", made, **sizes, distractor_share=0.25, difficulty="easy", workers=1)
    call = {"benchmark": str(made), "output": str(folder / "out"), "words": (40,), "only": CODES, "exact_queries": 8, "resamples": 20}
    return SimpleNamespace(folder=folder / "out", call=call, results=script.compare_codes(**call))


def test_every_code_has_its_row(script: ModuleType, compared: SimpleNamespace) -> None:
    rows = {row.name: row for row in compared.results}
    assert set(rows) == set(CODES)
    for row in rows.values():
        assert 0 <= row.recall_1 <= row.recall_10 <= row.recall_100 <= 1
        assert row.uap_low <= row.uap <= row.uap_high and row.queries == 8
        assert 0 < row.lookup_ms <= row.ms_per_query
    assert rows["fp16"].recall_1 >= 0.6 and rows["fp16"].uap > 0.5
    assert script.read_results(compared.folder / "results.csv") == compared.results
    table = (compared.folder / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(CODES) and {len(line.split(" | ")) for line in table[2:]} == {table[0].count("|") - 1}


def test_bytes_are_those_that_are_kept(script: ModuleType, compared: SimpleNamespace) -> None:
    queries, references = (script.load_described(compared.folder / side)[0] for side in ("queries", "references"))
    keypoints = len(references.keypoints) / len(references)
    rows = {row.name: row for row in compared.results}
    kept = {"fp16": 128, "ivf, 2 probes": 128, "binary, 128 bits": 16, "40 words, 64 bits": 8, "40 words": 1}
    for name, size in kept.items():
        assert rows[name].picture_bytes == pytest.approx((size + 8) * keypoints, rel=0.05)
        assert rows[name].id_bytes == pytest.approx(8 * keypoints) and rows[name].place_bytes == pytest.approx(16 * keypoints)
    counted = rows["40 words, tf-idf"]
    assert counted.place_bytes == 0 and 4 < counted.picture_bytes <= 5 * 40 + 4 and counted.shared_bytes == 4 * 128 * 40
    assert len(queries) == 8


def test_nothing_is_done_twice(script: ModuleType, compared: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("done again")

    for name in ("build", "rank", "new_index"):
        monkeypatch.setattr(sys.modules["measuring"], name, refuse)
    monkeypatch.setattr(pipeline, "score", refuse)
    assert script.compare_codes(**compared.call) == compared.results
    assert [row.name for row in script.compare_codes(**{**compared.call, "only": ("40 words",)})] == ["40 words"]


def test_votes_rank_as_the_shortlist_does(script: ModuleType, compared: SimpleNamespace) -> None:
    queries, references = (script.load_described(compared.folder / side)[0] for side in ("queries", "references"))
    rows, votes = references.keypoints.rows, importlib.import_module("matcher.shortlist.votes")
    index = Index.build(rows, np.arange(len(rows)), IndexSettings(kind="binary"), made_by="test")
    for number in range(4):
        expected, support = votes.vote(queries.features(number), references, index, script.STRATEGY.shortlist)
        ranked, _ = sys.modules["codes"].rank_by_votes(
            index, queries.features(number).first(script.STRATEGY.shortlist.keypoints), references, script.STRATEGY.shortlist
        )
        assert ranked[: len(expected)] == expected.tolist() or len(set(support.tolist())) < len(support)  # equal support, other order


@pytest.mark.parametrize("wrong", [{"words": (0,)}, {"exact_queries": 0}, {"resamples": 0}, {"queries": 0}, {"only": ("ivf",)}])
def test_wrong_requests_are_usage_errors(script: ModuleType, compared: SimpleNamespace, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"numbers must be at least 1|there is no code ivf"):
        script.compare_codes(**{**compared.call, **wrong})


def features_of(words: list[int]) -> LocalFeatures:
    """Words -> keypoints that are these words to the last bit."""
    rows = np.zeros((len(words), 128), np.uint8)
    rows[np.arange(len(words)), words] = 255
    point, ones = np.zeros((len(words), 2), np.float32), np.ones(len(words), np.float32)
    return LocalFeatures(point, ones, ones, rows, np.float32([1, 1]))


def test_tf_idf_by_hand(script: ModuleType) -> None:
    written = {"a": [0, 0, 1], "b": [0, 1, 2, 2], "c": [0], "d": [3, 0]}
    blank = [np.zeros(768, np.uint8)] * 4
    names = list(written)
    columns = {name: names for name in ("id", "path", "file_key", "pixel_key")} | {name: [9] * 4 for name in ("width", "height")}
    pictures = Pictures(**columns, thumbnail=blank, keypoints=[len(words) for words in written.values()])
    references = FeatureSet(pictures, join(names, [features_of(words) for words in written.values()]))
    rows, vocabulary = references.keypoints.rows, features_of([0, 1, 2, 3, 4]).rows.astype(np.float32)
    index = Index.build(rows, np.arange(len(rows)), IndexSettings(kind="words", bits=0), made_by="test", words=vocabulary)
    kept = sys.modules["tf_idf"].TfIdf.build(index, references)

    idf = {word: np.log(4 / holders) for word, holders in {0: 4, 1: 2, 2: 1, 3: 1}.items()}
    asked = [0, 1, 1, 2, 4]  # the last is in no picture and weighs nothing
    vectors = [{word: words.count(word) * idf.get(word, 0) for word in set(words)} for words in [*written.values(), asked]]
    *theirs, own = ({word: weight for word, weight in vector.items() if weight} for vector in vectors)

    def length(vector: dict[int, float]) -> float:
        return float(np.sqrt(sum(weight**2 for weight in vector.values()))) or 1.0

    expected = [sum(own.get(word, 0) * weight for word, weight in vector.items()) / (length(own) * length(vector)) for vector in theirs]
    assert kept.cosines(features_of(asked)) == pytest.approx(expected, abs=1e-6)
    assert kept.rank(features_of(asked), 9) == [1, 0] and kept.rank(features_of([4]), 9) == []
    assert kept.nbytes == 5 * len({(name, word) for name, words in written.items() for word in words}) + 4 * 4

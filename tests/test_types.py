import numpy as np
import pytest

from matcher import types
from matcher.types import Candidates, Descriptors, Errors, Keypoints, PairScores, Pictures, Predictions, Record, Views, converted

KINDS = [Views, Descriptors, Pictures, Keypoints, Candidates, PairScores, Predictions, Errors]


def views(count=3, **changed):
    values = {"image_id": [f"a{i}" for i in range(count)], "frame": np.tile(np.eye(3), (count, 1, 1)), "kind": ["whole"] * count}
    return Views(**{**values, "confidence": np.ones(count), **changed})


def scores(ids, **evidence):
    frames = np.tile(np.eye(3), (len(ids), 1, 1))
    return PairScores(query_id=ids, reference_id=["r"] * len(ids), frame=frames, evidence=evidence)


def predictions(probability):
    count = len(probability)
    ids = [f"q{i}" for i in range(count)]
    shares = np.full(count, 0.5)
    return Predictions(
        query_id=ids,
        reference_id=["r"] * count,
        frame=np.tile(np.eye(3), (count, 1, 1)),
        score=probability,
        probability=probability,
        query_covered=shares,
        reference_covered=shares,
        flip=np.zeros(count, dtype=bool),
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"frame": np.eye(3)},
        {"frame": np.ones((3, 3, 4))},
        {"frame": np.ones((3, 9))},
        {"confidence": 1.0},
        {"confidence": np.ones((3, 1))},
        {"image_id": [["a", "b", "c"]]},
    ],
)
def test_wrong_shapes_are_refused(changed):
    with pytest.raises(ValueError, match=rf"Views\.{next(iter(changed))} must have shape \(rows"):
        views(**changed)


def test_frames_of_patches_may_be_left_out():
    some = scores(["a", "b"])
    assert some.patch_frame.shape == (2, 3, 3) and np.isnan(some.patch_frame).all()
    told = PairScores(query_id=["c"], reference_id=["r"], frame=np.eye(3)[None], patch_frame=2 * np.eye(3)[None])
    assert np.array_equal(PairScores.concat([some, told]).patch_frame[2], 2 * np.eye(3))
    with pytest.raises(ValueError, match="differ in length"):
        PairScores(query_id=["c"], reference_id=["r"], frame=np.eye(3)[None], patch_frame=np.empty((0, 3, 3)))


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match=r"Views columns differ in length: .*'confidence': 2"):
        views(confidence=np.ones(2))
    with pytest.raises(ValueError, match="differ in length"):
        views(image_id=[])


def test_repeated_keys_are_refused_by_name():
    with pytest.raises(ValueError, match="more than one row with query_id b, reference_id r"):
        scores(["a", "b", "b"])
    assert len(views(image_id=["a", "a", "b"])) == 3  # Views have no keys: an image is looked at in many ways


def test_columns_take_their_dtypes():
    made = views(confidence=[1, 0, 1], image_id=np.array([1, 2, 30]))
    assert made.confidence.dtype == np.float32 and made.frame.dtype == np.float64
    assert made.image_id.tolist() == ["1", "2", "30"]


def test_descriptors_must_have_unit_norm():
    rows = np.eye(3, 4)
    made = {"image_id": list("abc"), "frame": np.tile(np.eye(3), (3, 1, 1)), "kind": ["whole"] * 3, "confidence": np.ones(3)}
    assert Descriptors(**made, rows=rows).rows.shape == (3, 4)
    with pytest.raises(ValueError, match="unit norm"):
        Descriptors(**made, rows=2 * rows)


@pytest.mark.parametrize("probability", [-0.01, 1.01, np.nan])
def test_probabilities_lie_between_0_and_1(probability):
    assert len(predictions([0.0, 1.0])) == 2
    with pytest.raises(ValueError, match="between 0 and 1"):
        predictions([0.5, probability])


def test_evidence_must_be_as_long_as_the_pairs():
    with pytest.raises(ValueError, match="evidence has inliers of another length"):
        scores(["a", "b"], inliers=[1.0])


def test_columns_and_fields_are_frozen():
    made = views()
    with pytest.raises(ValueError, match="read-only"):
        made.confidence[0] = 2
    with pytest.raises(AttributeError):
        made.confidence = np.zeros(3)
    own = np.zeros(3)
    views(confidence=own)
    own[0] = 1  # the caller's array stays the caller's


@pytest.mark.parametrize("rows", [slice(1, None), [2, 0], np.array([True, False, True]), [], slice(0, 0)])
def test_take(rows):
    made = scores(["a", "b", "c"], inliers=[1.0, 2.0, 3.0])
    taken = made.take(rows)
    assert type(taken) is PairScores
    assert taken.query_id.tolist() == made.query_id[rows].tolist()
    assert taken.evidence["inliers"].tolist() == made.evidence["inliers"][rows].tolist()
    assert taken.frame.shape == (len(taken), 3, 3)


def test_take_refuses_to_repeat_keys_and_a_single_row_number():
    with pytest.raises(ValueError, match="more than one row"):
        scores(["a", "b"]).take([0, 0])
    with pytest.raises(ValueError, match="must have shape"):
        views().take(1)


def test_concat_fills_missing_evidence_with_nan():
    joined = PairScores.concat([scores(["a"], one=[1.0]), scores([]), scores(["b", "c"], two=[2.0, 3.0])])
    assert joined.query_id.tolist() == ["a", "b", "c"] and list(joined.evidence) == ["one", "two"]
    assert np.array_equal(joined.evidence["one"], [1, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(joined.evidence["two"], [np.nan, 2, 3], equal_nan=True)


def test_concat_checks_the_whole():
    with pytest.raises(ValueError, match="more than one row"):
        PairScores.concat([scores(["a"]), scores(["a"])])
    assert views().concat([views(2), views(3, kind=["turn180"] * 3)]).kind.tolist() == ["whole"] * 2 + ["turn180"] * 3


def test_concat_of_what_take_cut_apart_is_the_whole():
    made = views(5, confidence=np.arange(5))
    joined = Views.concat([made.take(slice(0, 2)), made.take([]), made.take(slice(2, 5))])
    assert all(np.array_equal(getattr(joined, name), getattr(made, name)) for name, _, _ in Views.columns())


@pytest.mark.parametrize("kind", KINDS)
def test_empty_records(kind):
    none = kind.empty()
    assert len(none) == 0 and len(kind.concat([])) == 0 and len(kind.concat([none, none])) == 0 and len(none.take([])) == 0
    for name, _, shape in kind.columns():
        assert getattr(none, name).shape == (0, *(size if isinstance(size, int) else 0 for size in shape))


def test_every_record_is_tested_here():
    found = {kind for kind in vars(types).values() if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record}
    assert found == set(KINDS)


def test_errors_of():
    rows = [("a", "/a.png", "queries", "corrupt", "the file is damaged"), ("b", "/b.png", "queries", "empty", "the file is empty")]
    made = Errors.of(rows)
    assert [tuple(getattr(made, name)[i] for name, _, _ in Errors.columns()) for i in range(2)] == rows
    assert len(Errors.of([])) == 0
    with pytest.raises(ValueError):
        Errors.of([("a", "b")])


def test_text_that_is_text_is_not_copied_and_anything_else_is_made_so():
    ids = np.array(["a", "bcd"])
    kept = Errors(id=ids, path=ids.astype(object), stage=["x", "y"], code=np.array([b"c", b"d"]), message=ids)
    assert np.shares_memory(kept.id, ids) and not kept.id.flags.writeable and ids.flags.writeable
    assert kept.path.dtype.kind == kept.code.dtype.kind == "U" and kept.code.tolist() == ["c", "d"]


@pytest.mark.parametrize("absent", [None, float("nan")])
def test_text_that_is_absent_is_empty_and_nothing_else(absent):
    with pytest.raises(ValueError, match=r"Errors.path holds None or NaN; the text of what is absent is empty"):
        Errors(id=["a"], path=np.array([absent], dtype=object), stage=["x"], code=["c"], message=["m"])


def test_values_that_a_column_cannot_hold_are_refused():
    assert converted(np.array([3]), "uint8", "rows").tolist() == [3]
    assert converted(np.array([1, 0]), "bool", "flip").tolist() == [True, False]
    for values, dtype in (([300], "uint8"), ([1.9], "int64"), (["False"], "bool"), ([2], "bool")):
        with pytest.raises(ValueError, match=rf"flip must be {dtype}, and some of its values are not"):
            converted(np.array(values), dtype, "flip")

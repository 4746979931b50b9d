"""Two pictures."""

import json

import numpy as np
import pytest

from matcher.pipeline import compare


@pytest.fixture
def flipped(library):
    return library.queries / "flipped.jpg", library.references / "chelsea.png"


def test_in_words(command, flipped):
    code, printed, _ = command("compare", *flipped)
    lines = printed.splitlines()
    assert code == 0 and lines[0].startswith(f"{flipped[0]} is an edited copy of {flipped[1]}: probability ")
    assert any("mirror" in line or "flip" in line for line in lines)
    assert any(line.startswith("region in the reference") for line in lines)


def test_as_json(command, flipped):
    code, printed, complaint = command("compare", *flipped, "--json")
    told = json.loads(printed)
    assert code == 0 and complaint == ""
    assert told["probability"] > 0.9 and told["flip"] is True and np.shape(told["frame"]) == (3, 3)
    assert told["evidence"]["identical"] == 0 and told["evidence"]["sift_inliers"] > 20
    assert (told["query"], told["reference"]) == tuple(map(str, flipped))


def test_the_same_answer_as_a_run(prediction_of, library, flipped):
    there, here = prediction_of("flipped", "chelsea"), compare(*flipped).prediction
    assert here.probability[0] == there.probability[0] and (here.frame == there.frame).all()
    stranger = compare(library.queries / "ihc.jpg", library.references / "grass.png")
    assert stranger.probability < 0.5 and "is probably no copy of" in str(stranger)


def test_a_picture_with_itself(library):
    again = compare(library.references / "moon.png", library.references / "moon.png")
    assert again.probability > 0.999 and np.allclose(again.prediction.frame[0], np.eye(3))


def test_json_of_strangers_has_null_where_nothing_was_found(command, library):
    code, printed, _ = command("compare", library.queries / "horse.jpg", library.references / "page.png", "--json")
    assert code == 0 and "NaN" not in printed and json.loads(printed)["probability"] < 0.5


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 torn"])
def test_a_bad_picture_is_one_line(command, library, tmp_path, content):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(content)
    code, printed, complaint = command("compare", library.references / "moon.png", bad)
    assert code == 1 and printed == "" and len(complaint.splitlines()) == 1 and str(bad) in complaint

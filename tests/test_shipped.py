import pytest

from matcher import shipped as module
from matcher.errors import MatcherError
from matcher.shipped import shipped, shipped_names


def test_files_of_the_checkout_are_found():
    path = shipped("experiments", "run/keypoints.yaml")
    assert path.is_file() and path.parts[-3:] == ("experiments", "run", "keypoints.yaml")


def test_without_a_checkout_files_come_from_the_package(tmp_path, monkeypatch):
    inside = tmp_path / "matcher" / "_shipped" / "checkpoints" / "fusion" / "a.json"
    inside.parent.mkdir(parents=True)
    inside.write_text("{}")
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "matcher")
    assert shipped("checkpoints", "fusion/a.json") == inside
    assert shipped_names("checkpoints") == ["fusion/a.json"]


def test_what_does_not_exist_is_refused_with_what_does():
    with pytest.raises(MatcherError, match=r"no experiments/run/nothing\.yaml; there are: .*run/keypoints\.yaml"):
        shipped("experiments", "run/nothing.yaml")


def test_the_name_that_was_meant_is_offered():
    with pytest.raises(MatcherError, match=r"no checkpoints/fusion/keypoint\.json; there are: .*; did you mean fusion/keypoints\.json\?$"):
        shipped("checkpoints", "fusion/keypoint.json")


def test_names_do_not_leave_the_room():
    with pytest.raises(MatcherError, match="comes with no"):
        shipped("experiments", "../setup.cfg")

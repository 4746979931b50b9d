import subprocess

import pytest

from matcher.training import card

README = """# Photos

| source | images | licence as stated there |
|---|---|---|
| a/b | 2 | MIT |
| c/d | 1 | CC BY 4.0 (LICENSE) |

| file | licence |
|---|---|
| x | none |
"""


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "train.csv").write_text("file,kind,source\n1.webp,photo,a/b\n2.webp,photo,a/b\n3.webp,logo,c/d\n4.webp,photo,e/f\n")
    (folder / "other.csv").write_text("x,y\n1,2\n")
    (folder / "short.csv").write_text("file,source\n5.webp\n")
    (folder.parent / "picture.csv").write_bytes(b"\x89PNG")
    (folder / "README.md").write_text(README)
    return folder


def test_sources_are_counted_with_their_licences(photos):
    found = card.describe_sources(photos, ["1.webp", "sub/3.webp", "4.webp", "5.webp"])
    assert found == {
        "a/b": {"images": 1, "licence": "MIT"},
        "c/d": {"images": 1, "licence": "CC BY 4.0 (LICENSE)"},
        "e/f": {"images": 1, "licence": "not stated"},
        "unknown": {"images": 1, "licence": "not stated"},
    }


def test_photos_without_tables_are_of_unknown_source(tmp_path):
    assert card.describe_sources(tmp_path / "photos", ["a.jpg", "b.jpg"]) == {"unknown": {"images": 2, "licence": "not stated"}}


def test_commit_is_that_of_the_checkout(monkeypatch):
    answers = {"rev-parse": "abc", "status": ""}
    monkeypatch.setattr(card, "git", lambda *words: answers[words[0]])
    assert card.read_commit() == "abc"
    answers["status"] = " M file"
    assert card.read_commit() == "abc+changes"


def test_without_git_the_version_stands_for_the_commit(monkeypatch):
    def fail(*words):
        raise subprocess.CalledProcessError(128, words)

    monkeypatch.setattr(card, "git", fail)
    assert card.read_commit().startswith("matcher ")

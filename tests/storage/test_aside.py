import pytest

from matcher.errors import MatcherError, UsageError
from matcher.storage.aside import check_output


def test_a_file_of_another_kind_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=r"--output .*x\.csv must end in \.safetensors$"):
        check_output(tmp_path / "new" / "x.csv", ".safetensors")
    assert not list(tmp_path.iterdir())
    check_output(tmp_path / "new" / "x.safetensors", ".safetensors")
    assert [path.name for path in tmp_path.rglob("*")] == ["new"]


def test_so_is_a_file_that_is_read(tmp_path):
    (tmp_path / "a.json").write_text("")
    (tmp_path / "link.json").symlink_to("a.json")
    for name in ("a.json", "link.json"):
        with pytest.raises(UsageError, match=r"--output .*a\.json would replace what it is made from: choose another"):
            check_output(tmp_path / "a.json", ".json", tmp_path / "not there.json", tmp_path / name)
    check_output(tmp_path / "b.json", ".json", tmp_path / "a.json")


def test_so_is_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MatcherError, match=r"cannot make the folder .*; choose another --output"):
        check_output(tmp_path / "file" / "x.json", ".json")


@pytest.mark.parametrize(
    ("verb", "words", "ending"),
    [
        ("background", ["--photos", "/nowhere"], ".safetensors"),
        ("whiten", ["--descriptor", "/nowhere", "--photos", "/nowhere"], ".safetensors"),
        ("report", ["--predictions", "/nowhere", "--queries", "/nowhere", "--references", "/nowhere"], ".html"),
        ("contact_sheet", ["--photos", "/nowhere"], ".png"),
        ("fuse", ["--pair_scores", "/nowhere"], ".parquet"),
        ("fit_fusion", ["--pair_scores", "/nowhere", "--ground_truth", "/nowhere"], ".json"),
    ],
)
def test_verbs_that_write_one_file_say_so_first(command, tmp_path, verb, words, ending):
    code, _, err = command(verb, *words, "--output", tmp_path / "x.csv")
    assert code == 2 and f"{tmp_path / 'x.csv'} must end in {ending} (see" in err and not list(tmp_path.iterdir())

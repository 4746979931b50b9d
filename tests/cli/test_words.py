from matcher.cli.words import config_files, plain_words


def test_names_get_underscores_and_values_stay():
    assert plain_words(["--on-error", "a-b", "--x-y=c-d", "-v", "--", "--p-q"], set()) == [
        "--on_error",
        "a-b",
        "--x_y=c-d",
        "-v",
        "--",
        "--p-q",
    ]


def test_a_bare_switch_gets_a_value():
    assert plain_words(["--dry-run", "x"], {"dry_run"}) == ["--dry_run=true", "x"]
    assert plain_words(["--dry-run", "false"], {"dry_run"}) == ["--dry_run", "false"]
    assert plain_words(["--dry-run"], {"dry_run"}) == ["--dry_run=true"]
    assert plain_words([], {"dry_run"}) == []


def test_config_that_exists_is_taken_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (shipped,) = config_files(plain_words(["--config", "run/keypoints.yaml"], set()))
    assert shipped.endswith("experiments/run/keypoints.yaml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "keypoints.yaml").touch()
    assert plain_words(["--config=run/keypoints.yaml"], set()) == ["--config=run/keypoints.yaml"]


def test_config_files_are_listed_last_first():
    assert config_files(["--config", "a", "--x", "y", "--config=b"]) == ["b", "a"]

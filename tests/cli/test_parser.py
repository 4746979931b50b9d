"""Flags, configs and their composition, on the real verbs."""

import inspect
import json
from dataclasses import replace

import pytest
import yaml

from matcher.cli.parser import parse
from matcher.cli.verbs import POSITIONAL, VERBS, load
from matcher.errors import UsageError
from matcher.pipeline import Job, compare, run
from matcher.settings import Strategy
from matcher.stages.strategies import read_strategy

FULL = read_strategy(["run/full.yaml"])
RUN = ["--queries", "a", "--references", "b", "--output", "c"]


@pytest.fixture
def config(tmp_path):
    """A mapping -> the path of a YAML file that holds it."""

    def write(content):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


def strategy(*words):
    return parse("run", [*RUN, *words]).arguments["strategy"]


def refusal(*words, verb="run"):
    with pytest.raises(UsageError) as error:
        parse(verb, words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_are_those_of_the_signature():
    call = parse("run", RUN)
    assert call.function is run
    assert call.arguments == {"queries": "a", "references": "b", "output": "c", "strategy": FULL, "job": Job(), "ground_truth": None}
    assert not call.manner.json and not call.manner.quiet


def test_without_a_config_it_is_the_full_strategy_else_what_differs_from_the_defaults(config):
    assert strategy("--config", "run/full.yaml") == FULL and FULL.descriptor.backbone == "copydetect" and FULL.scorers.sift.again
    changed = strategy("--strategy.shortlist.per_query", "4")
    assert changed == replace(FULL, shortlist=replace(FULL.shortlist, per_query=4))
    assert strategy("--config", config({})) == Strategy() == strategy("--config=run/keypoints.yaml")
    assert parse("fuse", ["--pair_scores", "a", "--output", "b"]).arguments["strategy"] == FULL


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_what_its_function_takes(verb, capsys):
    function = load(verb)
    required = [name for name, p in inspect.signature(function).parameters.items() if p.default is inspect.Parameter.empty]
    expected = {name: {"rows": {"a": ["b"]}, "gallery": 7}.get(name, name) for name in required}
    given = {name: json.dumps(value) if not isinstance(value, str) else value for name, value in expected.items()}
    words = [word for name in required for word in ((name,) if verb in POSITIONAL else (f"--{name}", given[name]))]
    arguments = parse(verb, words).arguments
    inspect.signature(function).bind(**arguments)
    assert {name: arguments[name] for name in required} == expected
    with pytest.raises(SystemExit) as done:
        parse(verb, ["--help"])
    assert done.value.code == 0 and f"matcher {verb}" in capsys.readouterr().out


def test_nested_flags_reach_the_settings():
    found = strategy(
        "--strategy.query_keypoints.keypoints", "811", "--strategy.scorers.sift.ratio=0.7", "--strategy.descriptor.backbone", "timm:x"
    )
    assert found.query_keypoints.keypoints == 811 and found.reference_keypoints == Strategy().reference_keypoints
    assert found.scorers.sift.ratio == 0.7 and found.descriptor.backbone == "timm:x"
    assert strategy("--strategy.scorers.sift", "null").scorers.sift is None


def test_how_to_work_is_told_at_top_level():
    job = parse("run", [*RUN, "--on-error", "raise", "--workers", "3", "--fresh", "--cache=/tmp/x"]).arguments["job"]
    assert job == Job(workers=3, on_error="raise", fresh=True, cache="/tmp/x")


def test_dashes_and_underscores_are_the_same():
    words = ["--ground-truth", "t-r_u-t_h.csv", "--strategy.query-keypoints.short-side=99"]
    assert parse("run", [*RUN, *words]).arguments["ground_truth"] == "t-r_u-t_h.csv"
    assert strategy(*words) == strategy(*(word.replace("short-side", "short_side") for word in words))


def test_switches_stand_alone_or_have_a_value():
    for words, expected in ((["--fresh"], True), (["--fresh", "true"], True), (["--fresh=false"], False), (["--fresh", "--json"], True)):
        assert parse("run", [*RUN, *words]).arguments["job"].fresh is expected
    call = parse("compare", ["--json", "a.jpg", "b.jpg"])
    assert call.manner.json and call.arguments["query"] == "a.jpg"


def test_only_compare_takes_positional_arguments():
    assert parse("compare", ["a.jpg", "b.jpg"]).arguments == {"query": "a.jpg", "reference": "b.jpg", "strategy": FULL}
    assert parse("compare", ["a.jpg", "b.jpg"]).function is compare
    assert "unrecognized arguments: a" in refusal(*RUN, "a")
    assert "reference" in refusal("a.jpg", verb="compare")


def test_configs_compose_and_the_last_one_wins(config):
    first = config({"strategy": {"query_keypoints": {"keypoints": 7}, "index": {"probes": 3}}, "workers": 2})
    second = config({"strategy": {"query_keypoints": {"keypoints": 8}, "scorers": {"sift": None}}})
    found = strategy("--config", first, "--config", second)
    assert (found.query_keypoints.keypoints, found.index.probes, found.scorers.sift) == (8, 3, None)
    assert strategy("--config", second, f"--config={first}").query_keypoints.keypoints == 7
    assert strategy("--config", first, "--strategy.query_keypoints.keypoints", "9").query_keypoints.keypoints == 9
    assert parse("run", [*RUN, "--config", first]).arguments["job"].workers == 2


def test_config_may_name_the_inputs(config):
    arguments = parse("run", ["--config", config({"queries": "q", "references": "r"}), "--output", "o"]).arguments
    assert (arguments["queries"], arguments["references"], arguments["output"]) == ("q", "r", "o")


def test_printed_config_is_a_config_again(config, capsys, tmp_path):
    words = [*RUN, "--strategy.index.probes", "5", "--strategy.scorers.sift", "null", "--workers", "4", "--json"]
    with pytest.raises(SystemExit) as done:
        parse("run", [*words, "--print-config"])
    printed = capsys.readouterr().out
    assert done.value.code == 0 and not {"config", "json", "quiet"} & set(yaml.safe_load(printed))
    (tmp_path / "printed.yaml").write_text(printed)
    assert parse("run", ["--config", str(tmp_path / "printed.yaml")]).arguments == parse("run", words).arguments


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{scorers: {pair_model: {model: a, sure: x}}}", "strategy.scorers.pair_model.sure must be float or null, not x"),
        ("{scorers: {pair_model: {model: a, batch_size: many}}}", "strategy.scorers.pair_model.batch_size must be int, not many"),
        ("{shortlist: {descriptor: [{per_query: x}]}}", "strategy.shortlist.descriptor.per_query must be int, not x"),
        ("{descriptor: {backbone: a, query_views: whole}}", "strategy.descriptor.query_views must be list, not whole"),
        (
            "{scorers: {pair_model: {model: a, views: [{querry: [whole]}]}}}",
            "there is no option strategy.scorers.pair_model.views.querry (in FILE); did you mean strategy.scorers.pair_model.views.query?",
        ),
    ],
)
def test_the_innermost_key_is_named(text, said, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"strategy: {text}")
    said = said if "FILE" in said else f"{said} (in FILE)"
    assert refusal(*RUN, "--config", str(path)) == said.replace("FILE", str(path))


def test_shipped_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert strategy("--config", "experiments/run/keypoints.yaml") == strategy("--config", "run/keypoints.yaml")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("querys", "queries"),
        ("strategy.query_keypoints.keypont", "strategy.query_keypoints.keypoints"),
        ("strategy.scorers.sift.rato", "strategy.scorers.sift.ratio"),
        ("strategy.scorers.shift", "strategy.scorers.sift"),
        ("strategy.descriptor.bakbone", "strategy.descriptor.backbone"),
        ("on_eror", "on_error"),
        ("job.workers", "workers"),
        ("keypoints", "strategy.query_keypoints.keypoints"),
    ],
)
def test_misspelt_key_is_refused_by_name(key, meant, config):
    expected = f"there is no option {key}; did you mean {meant}?"
    assert refusal(*RUN, f"--{key}", "1") == expected == refusal(*RUN, f"--{key.replace('_', '-')}=1")
    nested = "1"
    for part in reversed(key.split(".")):
        nested = {part: nested}
    path = config(nested)
    assert refusal(*RUN, "--config", path) == expected.replace(";", f" (in {path});")


def test_abbreviations_are_refused():
    assert refusal("--quer", "a", "--references", "b", "--output", "c") == "there is no option quer; did you mean queries?"
    assert "there is no option strat.index" in refusal(*RUN, "--strat.index.probes", "3")


def test_wrong_values_are_refused_with_what_is_wanted(config):
    assert refusal(*RUN, "--on-error", "stop") == "on_error must be one of 'skip', 'raise', not stop"
    assert refusal(*RUN, "--workers", "two") == "workers must be int, not two"
    assert refusal(*RUN, "--strategy.index.lists", "many") == "strategy.index.lists must be int or null, not many"
    assert refusal(*RUN, "--strategy.scorers.sift.ratio", "x") == "strategy.scorers.sift.ratio must be float, not x"
    path = config({"strategy": {"index": {"probes": "few"}}})
    assert refusal(*RUN, "--config", path) == f"strategy.index.probes must be int, not few (in {path})"
    path = config({"strategy": {"index": {"gpu": False}}})  # what YAML makes of a bare no
    assert refusal(*RUN, "--config", path).endswith(
        f"not False (in {path}): write it in quotes, YAML reads a bare yes or no as another value"
    )


def test_what_is_missing_is_named(config):
    assert refusal("--queries", "a") == "still needed: --references, --output"
    path = config({"strategy": {"descriptor": {"query_views": ["whole"]}}})
    assert refusal(*RUN, "--config", path) == f"still needed: strategy.descriptor.backbone (in {path})"


@pytest.mark.parametrize("typed", ["run/fulll.yaml", "fulll.yaml", "full.yaml", "run/full", "experiments/run/ful.yaml"])
def test_the_config_that_was_meant_is_offered(typed):
    assert refusal(*RUN, "--config", typed).endswith(f"{typed}; did you mean run/full.yaml?")


def test_bad_config_files_are_named(tmp_path):
    assert refusal(*RUN, "--config", str(tmp_path / "none.yaml")).startswith(
        f"there is no config {tmp_path / 'none.yaml'}; matcher comes with"
    )
    assert refusal(*RUN, "--config", "run/quite_another.yaml").startswith("there is no config") and "ablation" not in refusal(
        *RUN, "--config", "run/quite_another.yaml"
    )
    assert refusal(*RUN, "--config", str(tmp_path)) == f"config {tmp_path} is a folder: name a YAML file"
    (tmp_path / "broken.yaml").write_text("strategy: [\n")
    assert refusal(*RUN, "--config", str(tmp_path / "broken.yaml")).startswith(
        f"config {tmp_path / 'broken.yaml'} is no YAML that can be read: "
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scorers.sift.again.doubt.least", "30"], "strategy.scorers.sift.again.doubt: most must be at least 30, not 20.0"),
        (["scorers.pair_model.sure=-3"], "strategy.scorers.pair_model: sure and doubt exclude each other"),
        (["scorers.sift.agin", "{}"], "there is no option strategy.scorers.sift.agin; did you mean strategy.scorers.sift.again?"),
        (["scorers.sift.again", "5"], "strategy.scorers.sift.again must be keys and values, not 5"),
        (["scorers.sift.ratio", "2"], "strategy.scorers.sift: ratio must be at most 1, at which every nearest keypoint is a match"),
        (["budget.pairs_per_query", "0"], "strategy.budget: pairs_per_query must be at least 1, not 0"),
    ],
)
def test_flags_that_cannot_be(words, said):
    complaint = refusal(*RUN, f"--strategy.{words[0]}", *words[1:])
    assert complaint.startswith(said) and "full.yaml" not in complaint.replace("(see", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stategy: {}", "there is no option stategy (in {path}); did you mean strategy?"),
        ("strategy: {scorers: {pair_model: {doubts: {}}}}", "there is no option strategy.scorers.pair_model.doubts (in {path})"),
        ("strategy: {budget: 5}", "strategy.budget must be keys and values, not 5 (in {path})"),
        (
            "strategy: {scorers: {sift: {again: {doubt: {least: .nan}}}}}",
            "strategy.scorers.sift.again.doubt: least must be at least 0, not nan",
        ),
        ("- a", "config {path} must hold keys and values"),
        ("strategy: null", "strategy must be keys and values, not null (in {path})"),
        ("strategy:", "strategy must be keys and values, not null (in {path})"),
        ("strategy:\n  answers: 1\n  answers: 2", "config {path} is no YAML that can be read: line 3: answers is there a second time"),
    ],
)
def test_files_that_cannot_be(text, said, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert refusal(*RUN, "--config", str(path)).startswith(said.format(path=path))

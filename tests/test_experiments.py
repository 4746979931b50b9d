"""Every YAML file under experiments/ is a config that the command line takes, to the last key."""

import inspect
from pathlib import Path

import pytest
import yaml

from matcher.cli.parser import parse
from matcher.cli.verbs import VERBS, load
from matcher.errors import UsageError
from matcher.shipped import shipped, shipped_names
from matcher.stages.predicting import load_fusion

ELSEWHERE = ("augmentations", "descriptor", "overlay", "token_fusion", "concat_vit")  # tests/data/augmentations, tests/cli/test_training.py
FILES = [name for name in shipped_names("experiments") if name.endswith((".yaml", ".yml"))]
CONFIGS = [name for name in FILES if Path(name).parts[0] not in ELSEWHERE]


def verb_of(name):
    """The verb that a config is for: the name of its folder."""
    room = Path(name).parts[0]
    return {"ablation": "ablate"}.get(room, room)


def needed(verb, config):
    """Words for the arguments that a verb must have and the config does not give."""
    named = yaml.safe_load(config.read_text()) or {}
    required = [name for name, p in inspect.signature(load(verb)).parameters.items() if p.default is inspect.Parameter.empty]
    return [word for name in required if name not in named for word in (f"--{name}", "somewhere")]


def test_the_experiment_of_the_readme_is_there():
    assert "run/keypoints.yaml" in CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_taken(name):
    assert verb_of(name) in VERBS, f"experiments/{name} must lie in a folder named for its verb"
    path = shipped("experiments", name)
    call = parse(verb_of(name), ["--config", str(path), *needed(verb_of(name), path)])
    assert call.function is load(verb_of(name))


@pytest.mark.parametrize("name", [name for name in CONFIGS if verb_of(name) == "run"])
def test_the_fusion_of_a_strategy_ships_and_hears_its_scorers(name):
    strategy = parse("run", ["--config", str(shipped("experiments", name)), *needed("run", shipped("experiments", name))]).arguments[
        "strategy"
    ]
    assert load_fusion(strategy).weights


@pytest.mark.parametrize("name", CONFIGS)
def test_config_with_one_unknown_key_is_refused(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**(yaml.safe_load(shipped("experiments", name).read_text()) or {}), "queriess": "x"}))
    with pytest.raises(UsageError, match="there is no option queriess"):
        parse(verb_of(name), ["--config", str(path), *needed(verb_of(name), path)])

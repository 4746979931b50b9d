"""The strategies that the README shows can be run as they stand there."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from matcher.stages import readiness
from matcher.stages.strategies import read_strategy

BLOCKS = re.findall(r"(?m)(?:^    .*\n)+", (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"))
SHOWN = [textwrap.dedent(block) for block in BLOCKS if block.lstrip().startswith("strategy:")]


@pytest.mark.parametrize("shown", SHOWN, ids=range(len(SHOWN)))
def test_a_strategy_of_the_readme_is_ready(shown, library, monkeypatch):
    monkeypatch.setattr(readiness, "find_spec", lambda name: True)  # as with the extra overlay
    own = shown.replace("runs/pairs/model.safetensors", "token_fusion/copydetect")  # trained by the one who reads it
    readiness.check_ready(read_strategy([yaml.safe_load(own)["strategy"]]), queries=library.queries, references=library.references)


def test_all_are_tried():
    assert len(SHOWN) == 3

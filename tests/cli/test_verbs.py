"""The help of a verb shows the parts of the strategy that the verb reads, and no others."""

import inspect
import re
import shutil
from dataclasses import fields

import pytest

from matcher.cli.parser import parse
from matcher.cli.verbs import READS, load
from matcher.pipeline import describe
from matcher.settings import DescriptorSettings, Strategy

TINY = DescriptorSettings(backbone="timm:test_vit", weights=False, size=32)
PARTS = {field.name for field in fields(Strategy)}


@pytest.mark.parametrize("verb", READS)
def test_help_shows_the_parts_that_are_read(verb, capsys):
    with pytest.raises(SystemExit):
        parse(verb, ["--help"])
    printed = capsys.readouterr().out
    assert set(re.findall(r"--strategy\.(\w+)", printed)) == set(READS[verb]) < PARTS
    assert "No other part of the strategy matters" in printed and "CONFIG: ==" not in printed


def test_what_is_hidden_may_still_be_given():
    assert parse("convert", ["a", "b", "--strategy.fusion", "full"]).arguments["strategy"].fusion == "full"


class Watched(Strategy):
    """A strategy that notes which of its parts are read."""

    def __getattribute__(self, name):
        if name in PARTS:
            super().__getattribute__("__dict__").setdefault("read", set()).add(name)
        return super().__getattribute__(name)


@pytest.fixture
def places(library, finished, tmp_path):
    """A verb -> what it is given beside the strategy: described are two pictures on either side."""
    few, described = tmp_path / "few", tmp_path / "described"
    few.mkdir()
    for name in ("brick.png", "page.png"):
        shutil.copy(library.references / name, few)
    for side, folder in (("query", "queries"), ("reference", "references")):
        describe(few, described / folder, side=side, strategy=Strategy(descriptor=TINY))
    return {
        "describe": {"images": few, "output": tmp_path / "again", "side": "query"},
        "add": {"references": few, "collection": tmp_path / "collection"},
        "index": {"described": described / "references", "output": tmp_path / "index"},
        "fuse": {"pair_scores": finished[0] / "pair_scores", "output": tmp_path / "fused.parquet"},
        "calibrate": {"fused": finished[0] / "fused.parquet", "output": tmp_path / "predictions.parquet"},
        "report": {
            "predictions": finished[0] / "predictions.parquet",
            "queries": finished[0] / "queries",
            "references": finished[0] / "references",
            "output": tmp_path / "report.html",
        },
        "convert": {"source": described, "output": tmp_path / "vectors.h5"},
        "background": {"photos": few, "output": tmp_path / "background.safetensors"},
        "false_links": {"gallery": 9},
    }


def test_and_no_others_are(places, monkeypatch):
    from matcher import background
    from matcher.shortlist import false_links

    monkeypatch.setattr(background, "load_background", lambda settings: settings)
    monkeypatch.setattr(false_links, "expect_false_links", lambda *_, **__: None)  # it takes no strategy
    for verb, given in places.items():
        strategy = Watched(descriptor=TINY)
        vars(strategy)["read"] = set()
        inspect.unwrap(load(verb))(**given, strategy=strategy)  # what judges all settings reads them all
        assert vars(strategy)["read"] <= set(READS[verb]), verb
    assert places.keys() == READS.keys()

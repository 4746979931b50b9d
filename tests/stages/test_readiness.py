"""What a run would stumble over at its end is refused at its beginning."""

from dataclasses import replace

import pytest
import torch

from matcher.errors import MatcherError, UsageError
from matcher.index_gpu import faiss_gpus
from matcher.pipeline import run
from matcher.settings import (
    CropSettings,
    DescriptorSettings,
    Doubt,
    IndexSettings,
    NearestViews,
    PairModelSettings,
    Scorers,
    ShortlistSettings,
    SiftScorerSettings,
    Strategy,
    ViewPairs,
)
from matcher.shipped import shipped_names
from matcher.stages import readiness
from matcher.stages.readiness import check_ready
from matcher.stages.strategies import read_strategy
from matcher.workshop import ablate

SHIPPED = DescriptorSettings(backbone="copydetect", background="copydetect")


def changed(**settings):
    return Strategy(**settings)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (changed(fusion="nosuch"), "no checkpoints/fusion/nosuch.json"),
        (changed(descriptor=replace(SHIPPED, backbone="nosuch")), "backbone 'nosuch' is neither"),
        (
            changed(descriptor=replace(SHIPPED, background="nosuch")),
            "background 'nosuch' is neither a file that ends",
        ),
        (changed(descriptor=replace(SHIPPED, backbone="timm:test_vit", weights=False)), "was made by another descriptor"),
        (changed(descriptor=replace(SHIPPED, query_views=["overlays"], detector="nosuch")), "overlay 'nosuch' is neither a file"),
        (changed(query_crop=CropSettings(detector="nosuch")), "overlay 'nosuch' is neither a file"),
        (changed(scorers=Scorers(pair_model=PairModelSettings(model="nosuch"))), "model 'nosuch' is neither"),
        (
            changed(scorers=Scorers(pair_model=PairModelSettings(model="copydetect", views=[ViewPairs(query=["overlays"])]))),
            "wants the query view 'overlays'",
        ),
        (
            changed(fusion="descriptor", scorers=Scorers(sift=None, pair_model=PairModelSettings(model="copydetect", doubt=Doubt()))),
            "doubt waits for keypoints",
        ),
        (
            changed(descriptor=SHIPPED, shortlist=ShortlistSettings(descriptor=[NearestViews(query=["flip"])])),
            "wants the query view 'flip'",
        ),
    ],
)
def test_models_and_rules(strategy, said, library):
    with pytest.raises((MatcherError, UsageError), match=said):
        check_ready(strategy, queries=library.queries, references=library.references)


@pytest.mark.skipif(torch.cuda.is_available() or faiss_gpus() > 0, reason="there is a GPU here")
def test_a_gpu_that_is_not_there(library):
    for strategy in (changed(index=IndexSettings(gpu="yes")), changed(scorers=Scorers(sift=SiftScorerSettings(gpu="yes")))):
        with pytest.raises(MatcherError, match=r"gpu is yes, but .*sees no GPU|gpu is yes, but neither faiss nor torch sees a GPU"):
            check_ready(strategy, queries=library.queries, references=library.references)


STRATEGIES = [name for name in shipped_names("experiments") if name.startswith("run/")]


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_ships_is_ready(name, library, monkeypatch):
    monkeypatch.setattr(readiness, "find_spec", lambda name: True)  # as with the extra overlay
    check_ready(read_strategy([name]), queries=library.queries, references=library.references)


def test_the_truth_is_read_before_and_what_it_names_in_vain_is_told(library, tmp_path, caplog):
    with pytest.raises(MatcherError, match=r"cannot read .*nowhere\.csv"):
        run(library.queries, library.references, tmp_path / "out", ground_truth=tmp_path / "nowhere.csv")
    assert not (tmp_path / "out").exists()
    places = {"queries": library.queries, "references": library.references}
    assert readiness.read_truth(library.write_truth(tmp_path / "truth.csv"), **places).pairs() and not caplog.text.count("are not among")
    (tmp_path / "more.csv").write_text("query_id,reference_id\ncropped,astronaut\nstranger,astronaut\nother,nobody\n")
    readiness.read_truth(tmp_path / "more.csv", **places)
    assert "2 of the queries that " in caplog.text and "the first stranger, are not among those of" in caplog.text
    assert "1 of the references that " in caplog.text and "the first nobody, are" in caplog.text


def test_nothing_is_done_before(library, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MatcherError, match="no pictures there"):
        run(library.queries, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(MatcherError, match="no checkpoints/fusion/nosuch"):
        run(library.queries, library.references, tmp_path / "out", strategy=Strategy(fusion="nosuch"))
    truth, rows = library.write_truth(tmp_path / "truth.csv"), {"one": ["run/full.yaml", {"descriptor": {"background": "nosuch"}}]}
    with pytest.raises(MatcherError, match="background 'nosuch' is neither a file that ends"):
        ablate(library.queries, library.references, truth, tmp_path / "grid", rows=rows)
    assert not (tmp_path / "out").exists() and not (tmp_path / "grid").exists()


@pytest.mark.parametrize("file", ["d2lv", "imgfp", "visionforce"])
def test_the_extra_of_the_detector_is_asked_for_before_anything_is_made(file, library, monkeypatch):
    monkeypatch.setattr(readiness, "find_spec", lambda name: None)
    with pytest.raises(MatcherError, match=r"the overlay detector needs ultralytics: pip install matcher\[overlay\]"):
        check_ready(read_strategy([f"run/{file}.yaml"]), queries=library.queries, references=library.references)

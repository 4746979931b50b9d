"""Fitting a fusion model on pictures that synthesize made, and using it."""

import json

import pytest
from PIL import Image

from matcher import pipeline, workshop
from matcher.errors import UsageError
from matcher.settings import Scorers, Strategy
from matcher.stages.predicting import load_fusion
from matcher.storage.records import read_record
from matcher.types import Predictions


@pytest.fixture(scope="module")
def fitted(photos, tmp_path_factory):
    """A benchmark made of photos, a run on it, and the fusion model fitted on the pairs of that run."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "photos").mkdir()
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / "photos" / f"{name}.png", compress_level=1)
    made = folder / "made"
    workshop.synthesize(
        folder / "photos", made, queries=40, references=12, distractor_share=0.25, difficulty="easy", max_side=256, reference_side=192
    )
    pipeline.run(made / "queries", made / "references", folder / "out")
    model = folder / "models" / "mine.json"
    return folder, workshop.fit_fusion(folder / "out" / "pair_scores", made / "ground_truth.csv", model)


def test_the_model_and_its_card(fitted):
    folder, made = fitted
    content = json.loads(made.path.read_text())
    assert made.path == folder / "models" / "mine.json"
    assert content["card"]["copies"] >= 20 and content["card"]["strangers"] >= 20 and content["slope"] > 0
    assert content["weights"] == made.as_dict()["weights"] and str(made.path) in str(made)
    held_out = content["card"]["held_out"]
    assert set(held_out) == {"micro_ap", "recall_at_p90", "calibration_error"}
    assert all(numbers["low"] <= numbers["value"] <= numbers["high"] for name, numbers in held_out.items() if name != "calibration_error")
    assert held_out["micro_ap"]["value"] > 0.8 and f"{held_out['micro_ap']['value']:.4f}" in str(made)
    again = workshop.fit_fusion(folder / "out" / "pair_scores", folder / "made" / "ground_truth.csv", folder / "again.json")
    assert again.path.read_bytes() == made.path.read_bytes()


def test_its_predictions_are_good_where_it_was_fitted(fitted, command):
    folder, made = fitted
    flags = (f"--strategy.fusion={made.path}",)
    assert command("fuse", "--pair_scores", folder / "out" / "pair_scores", "--output", folder / "fused.parquet", *flags)[0] == 0
    assert command("calibrate", "--fused", folder / "fused.parquet", "--output", folder / "mine.parquet", *flags)[0] == 0
    measured = pipeline.evaluate(folder / "mine.parquet", folder / "made" / "ground_truth.csv", edits=folder / "made" / "edits.csv")
    assert measured.micro_ap.value > 0.9 and measured.calibration_error.value < 0.1
    assert measured.location.median_iou.value > 0.8 and measured.by_family
    found = read_record(folder / "mine.parquet", Predictions)
    shipped = read_record(folder / "out" / "predictions.parquet", Predictions)
    assert len(found) == len(shipped) and (found.probability != shipped.probability).any()


def test_identical_pictures_are_certain_under_any_model(fitted, finished, tmp_path):
    strategy = Strategy(fusion=str(fitted[1].path))
    fused = pipeline.fuse(finished[0] / "pair_scores", tmp_path / "fused.parquet", strategy=strategy)
    found = read_record(pipeline.calibrate(fused, tmp_path / "new" / "out.parquet", strategy=strategy), Predictions)
    assert (found.probability[found.evidence["identical"] == 1] > 0.999).all() and found.evidence["identical"].sum() == 1


def test_logits_of_another_model_are_not_calibrated(fitted, finished, tmp_path):
    fused = pipeline.fuse(finished[0] / "pair_scores", tmp_path / "fused.parquet", strategy=Strategy(fusion=str(fitted[1].path)))
    with pytest.raises(UsageError, match=r"fused\.parquet was fused by another model than keypoints: give the --strategy\.fusion"):
        pipeline.calibrate(fused, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_too_few_pairs_are_refused(finished, library, command, tmp_path):
    truth = library.write_truth(tmp_path / "truth.csv")
    words = ("--pair_scores", finished[0] / "pair_scores", "--ground_truth", truth, "--output", tmp_path / "model.json")
    code, _, complaint = command("fit-fusion", *words)
    assert code == 1 and "too few" in complaint and not (tmp_path / "model.json").exists()


def test_the_scorers_whose_evidence_counts(fitted, command, tmp_path):
    folder, made = fitted
    words = ("--pair-scores", folder / "out" / "pair_scores", "--ground-truth", folder / "made" / "ground_truth.csv")
    code, shown, _ = command("fit-fusion", *words, "--output", tmp_path / "mine.json", "--scorers", "[sift]")
    assert code == 0 and json.loads((tmp_path / "mine.json").read_text())["weights"] == made.fusion.weights and "held out" in shown
    code, _, complaint = command("fit-fusion", *words, "--output", tmp_path / "no.json", "--scorers", "[pair_model]")
    assert code == 1 and "none of pair_model looked" in complaint
    code, _, complaint = command("fit-fusion", *words, "--output", tmp_path / "no.json", "--scorers", "[magic]")
    assert code == 2 and "magic" in complaint and "sub_image" in complaint


@pytest.mark.parametrize(("name", "told"), [("keypoint", "fusion/keypoints.json"), ("absent.json", "absent.json")])
def test_a_model_that_is_not_there(finished, command, tmp_path, name, told):
    words = ("--pair_scores", finished[0] / "pair_scores", "--output", tmp_path / "fused.parquet", f"--strategy.fusion={name}")
    code, _, complaint = command("fuse", *words)
    assert code == 1 and told in complaint and len(complaint.splitlines()) == 1


def test_calibrate_writes_parquet_and_nothing_over_it(finished, command, tmp_path):
    code, _, complaint = command("calibrate", "--fused", finished[0] / "fused.parquet", "--output", tmp_path / "out.csv")
    assert code == 2 and "must end in .parquet" in complaint and not list(tmp_path.iterdir())


def test_calibrate_replaces_predictions_and_nothing_else(finished, command, tmp_path):
    fused, words = tmp_path / "fused.parquet", ("calibrate", "--strategy.fusion", "keypoints", "--fused")
    fused.write_bytes((finished[0] / "fused.parquet").read_bytes())
    code, _, complaint = command(*words, fused, "--output", fused)
    assert code == 2 and "would replace what it is made from" in complaint
    (tmp_path / "truth.csv").write_text("query_id,reference_id\n1,2\n")
    code, _, complaint = command(*words, fused, "--output", tmp_path / "truth.parquet")
    assert code == 2 and f"{tmp_path / 'truth.csv'} holds no predictions, and would be replaced" in complaint
    assert (tmp_path / "truth.csv").read_text() == "query_id,reference_id\n1,2\n" and not (tmp_path / "truth.parquet").exists()
    assert [command(*words, fused, "--output", tmp_path / "out.parquet")[0] for _ in range(2)] == [0, 0]


def test_calibrate_wants_fused_scores(finished, command, tmp_path):
    part = finished[0] / "pair_scores" / "part-00000.parquet"
    code, _, complaint = command("calibrate", "--fused", part, "--output", tmp_path / "out.parquet")
    assert code == 1 and "matcher fuse" in complaint


def test_a_fusion_of_keypoints_is_refused_where_they_never_look():
    with pytest.raises(UsageError, match=r"strategy\.fusion keypoints weighs keypoints, and strategy\.scorers\.sift is null"):
        load_fusion(Strategy(scorers=Scorers(sift=None)))
    assert "similarity" in load_fusion(Strategy(scorers=Scorers(sift=None), fusion="descriptor")).weights

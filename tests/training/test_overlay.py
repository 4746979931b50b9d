import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from PIL import Image

from matcher.data.augmentations import Augmented
from matcher.errors import MatcherError, UsageError
from matcher.models.cards import read_card
from matcher.models.checkpoint import load, save
from matcher.models.overlay_yolo import Detections, OverlayDetector
from matcher.training.overlay import OverlayTraining
from matcher.training.overlay_scenes import OverlayScenes
from matcher.training.settings import OptimiserSettings

pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="the extra overlay is not installed")
EXPERIMENTS = Path(__file__).parents[2] / "experiments" / "overlay"
TRAINER = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": -1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty-four small pictures: smooth noise, each in its own colours."""
    place, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(24):
        coarse = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8))
        coarse.resize((60, 48), Image.Resampling.BICUBIC).save(place / f"{number:02d}.png")
    return place


def scenes(folder, **values):
    return OverlayScenes(str(folder), **{"batch_size": 4, "others": 4, "bank_side": 48, "held_out": 0.4, "held_out_batches": 1, **values})


def test_what_is_left_out_is_never_drawn(folder, tmp_path):
    data = scenes(folder)
    data.setup("fit")
    assert data.bank.weight.all() and data.held_out.weight.all()
    left_out = {*data.bank.ids[:9], *data.held_out.ids[:2]}
    (tmp_path / "figures.txt").write_text("# remark\n" + "\n".join(sorted(left_out)) + "\n\n")
    cleaned = scenes(folder, batch_size=2, others=2, leave_out=str(tmp_path / "figures.txt"))
    cleaned.setup("fit")
    assert cleaned.bank.ids == data.bank.ids and cleaned.held_out.ids == data.held_out.ids  # who is held out stays
    for bank in (cleaned.bank, cleaned.held_out):
        assert {bank.ids[row] for row in bank.weight.nonzero()[:, 0].tolist()} == set(bank.ids) - left_out
        assert bank.weight.sum().item() == pytest.approx(1)
    drawn = [row for draw in cleaned.val_dataloader() for row in [*draw.rows.tolist(), *draw.others.tolist()]]
    assert drawn and not left_out & {cleaned.held_out.ids[row] for row in drawn}


def test_scenes_are_learnt_from_at_several_sizes_and_judged_at_one(folder):
    data = scenes(folder, smallest=32)
    data.asked_side = 96
    data.setup("fit")
    draws = [next(iter(data.val_dataloader()))._replace(seed=seed) for seed in range(12)]
    sides = {
        name: {max(data.make_pairs(bank, draw, hardness=0.5).pixels.shape[-2:]) for draw in draws}
        for name, bank in (("learnt", data.bank), ("judged", data.held_out))
    }
    assert sides == {"learnt": {32, 64, 96}, "judged": {96}}
    with pytest.raises(UsageError, match=r"data.smallest must be a multiple of 32, not 48"):
        scenes(folder, smallest=48)


def test_a_list_of_photos_left_out_that_is_none_is_refused(folder, tmp_path):
    with pytest.raises(MatcherError, match=r"experiments/nowhere\.txt"):
        scenes(folder, leave_out="nowhere.txt")
    (tmp_path / "all.txt").write_text("\n".join(path.name for path in folder.iterdir()))
    with pytest.raises(MatcherError, match="none is left to draw"):
        scenes(folder, leave_out=str(tmp_path / "all.txt")).setup("fit")


def test_figures_of_several_pictures_are_told_from_one(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    is_figure = import_module("find_figures").is_figure
    monkeypatch.delitem(sys.modules, "find_figures")
    one = np.random.default_rng(0).uniform(0, 200, (60, 80))
    assert not is_figure(one)
    two = one.copy()
    two[:, 30:34] = 250
    assert is_figure(two) and is_figure(two.T)
    assert not is_figure(np.where(np.arange(80) < 8, one, 250.0))  # one picture, and paper beside it
    assert not is_figure(np.where(np.abs(np.arange(80) - 40) < 2, 200.0, one))  # the band is grey
    drawing = np.full((60, 80), 250.0)
    drawing[::6, :] = drawing[:, 3::9] = 0
    drawing[:, 38:44] = 250
    assert not is_figure(drawing)  # lines on paper


def train(folder, *, seed=0, steps=2):
    """The losses of a short training, and its module."""
    torch.manual_seed(123 + seed)
    module, losses = OverlayTraining(size=64, width=0.125, seed=seed, optimiser=OptimiserSettings(warm_up=1, average=0.9)), []
    whole = module.training_step
    module.training_step = lambda batch, batch_idx: (losses.append(whole(batch, batch_idx)), losses[-1])[1]
    Trainer(**TRAINER, max_steps=steps, limit_val_batches=0, enable_model_summary=False).fit(module, scenes(folder, seed=seed))
    return [loss.item() for loss in losses], module


def test_same_seed_same_losses(folder):
    first, again, other = train(folder)[0], train(folder)[0], train(folder, seed=1)[0]
    assert len(first) == 2
    assert first == again
    assert first != other


def test_the_average_follows_and_is_the_result(folder):
    module = train(folder)[1]
    assert module.result is module.average
    pairs = zip(module.average.parameters(), module.model.parameters(), strict=True)
    assert any(not torch.equal(average, last) for average, last in pairs)
    assert all(tensor.isfinite().all() for tensor in module.average.state_dict().values())


def test_boxes_of_a_scene_lie_on_what_was_pasted(folder, monkeypatch):
    data = scenes(folder)
    data.setup("fit")
    monkeypatch.setattr(OverlayScenes, "side", 64)

    def paste(pictures, aspect, *, generator, side, hardness, others):
        count = len(pictures)
        pixels, boxes = torch.zeros(count, 3, side, side), torch.tensor([[[0.25, 0.5, 0.75, 0.875]]]).expand(count, -1, -1)
        pixels[:, :, 32:56, 16:48] = 1.0
        return Augmented(pixels, torch.eye(3).expand(count, 3, 3), pixels[:, :1] > 0, boxes, torch.zeros(count, 1, dtype=torch.int64))

    data.recipe = paste
    shapes = set()
    for draw in [next(iter(data.val_dataloader()))._replace(seed=seed) for seed in range(8)]:
        batch = data.make_pairs(data.held_out, draw, hardness=1.0)
        h, w = batch.pixels.shape[-2:]
        shapes.add(batch.filled)
        x0, y0, x1, y1 = (batch.boxes[0, 0] * torch.tensor([w, h, w, h])).tolist()
        picture = batch.pixels[0, :, : round(batch.filled[1] * h), : round(batch.filled[0] * w)]
        bright = (picture[0] > 0.5).nonzero()
        found = [*bright.min(0).values.flip(0).tolist(), *(bright.max(0).values.flip(0) + 1).tolist()]
        np.testing.assert_allclose(found, [x0, y0, x1, y1], atol=1.01)
    assert len(shapes) > 4


def test_validation_tells_recall_of_each_class(folder):
    module = OverlayTraining(size=64, width=0.125)
    box, nothing = np.array([[0.1, 0.1, 0.5, 0.5]], dtype=np.float32), np.empty((0, 4), dtype=np.float32)
    right = Detections(box, np.array([0]), np.array([0.8], dtype=np.float32))
    nobody = Detections(nothing, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    logged = {}
    module.log_dict = logged.update
    truth = np.concatenate([box, box + 0.3, np.zeros((1, 4), np.float32)])
    module.found = [(right, truth, np.array([0, 2, -1])), (nobody, box, np.array([0]))]
    module.on_validation_epoch_end()
    assert logged["val_recall_at_p90"] == 0.5
    assert logged["val_threshold"] == pytest.approx(0.8)
    assert logged["val_recall_at_p90_text"] == 0
    assert np.isnan(logged["val_recall_at_p90_emoji"])


def test_one_command_trains_it_and_writes_a_detector(folder, command, tmp_path):
    code, _, stderr = command("fit", "--config", EXPERIMENTS / "smoke.yaml", "--data.photos", folder, "--output", tmp_path / "out")
    assert code == 0, stderr
    card = read_card(tmp_path / "out" / "model.safetensors")
    assert card["class"] == "OverlayDetector"
    assert card["training"]["steps"] == 2
    assert 0 <= card["numbers"]["val_recall_at_p90"] <= 1
    detector = load(tmp_path / "out" / "model.safetensors", kind="OverlayDetector")
    assert detector.detect(np.zeros((40, 60, 3), dtype=np.uint8)).boxes.shape[1] == 4


def test_a_training_may_begin_from_a_checkpoint(tmp_path):
    known = OverlayDetector(size=96, width=0.125, seed=5)
    file = str(save(tmp_path / "known.safetensors", known, {})[0])
    begun = OverlayTraining(size=64, width=0.125, weights=file)
    assert begun.size == 64
    for held in (begun.model, begun.average):
        assert all(torch.equal(value, known.state_dict()[name]) for name, value in held.state_dict().items())
    with pytest.raises(UsageError, match=r"model\.weights: .* has width 0\.125, and model\.width is 0\.25"):
        OverlayTraining(size=64, width=0.25, weights=file)


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_makes_its_parts(file, tmp_path):
    from matcher.cli.training import TrainingCLI

    config = yaml.safe_load(file.read_text())
    named = [f"--output={tmp_path}", f"--data.photos={tmp_path}", "--trainer.accelerator=cpu", "--trainer.precision=32"]
    cli = TrainingCLI(["--config", str(file), *named], run=False)
    assert cli.model.size == config["model"]["init_args"]["size"]
    assert cli.datamodule.batch_size == config["data"]["init_args"]["batch_size"]
    assert cli.trainer.max_steps == config["trainer"]["max_steps"]

"""The weights in checkpoints/ load, strictly, and fit together."""

import cv2
import numpy as np
import pytest
from skimage import data

from matcher.background import Background
from matcher.describe import load_model, made_by, weights_path
from matcher.geometry import from_box, iou
from matcher.models.cards import read_card
from matcher.scoring.pair_model import load_pair_model
from matcher.scoring.patches import locate
from matcher.settings import DescriptorSettings, PairModelSettings
from matcher.shipped import shipped, shipped_names

SETTINGS = DescriptorSettings(backbone="copydetect", background="copydetect")
WEIGHTS = [name for name in shipped_names("checkpoints") if name.endswith(".safetensors")]


def test_the_descriptor_describes_and_its_background_is_its_own():
    model = load_model(SETTINGS)
    pixels = np.random.default_rng(0).integers(0, 256, (3, model.size, model.size, 3), dtype=np.uint8)
    rows = model.describe(pixels)
    assert rows.shape == (3, 256) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.abs(np.corrcoef(rows)[np.triu_indices(3, 1)]).max() < 0.99
    strangers = Background.load(weights_path("copydetect", "background"), made_by=made_by(SETTINGS))
    assert strangers.rows.shape == (4000, 256)


@pytest.mark.parametrize("name", [name for name in WEIGHTS if not name.startswith("background")])
def test_cards_name_data_licences_commit_and_numbers(name):
    card = read_card(shipped("checkpoints", name))
    assert card["commit"] and card["licences"] and card["data"]["photos"] > 10_000
    assert card["numbers"] or card["class"] == "Vlad"  # which is a floor, and trains no network


def test_they_are_small():
    size = {name: shipped("checkpoints", name).stat().st_size for name in WEIGHTS}
    assert sum(size[name] for name in WEIGHTS if name.startswith(("descriptor", "overlay"))) < 18e6
    assert sum(size[name] for name in WEIGHTS if name.startswith(("token_fusion", "concat_vit"))) < 14e6
    assert sum(size.values()) < 30e6 and max(size.values()) < 16e6


def test_the_pair_model_tells_a_crop_from_a_stranger():
    model = load_pair_model(PairModelSettings(model="token_fusion/copydetect"))
    whole, part, other = (data.astronaut(), data.astronaut()[30:330, 90:420], data.coffee())
    views = [np.stack([cv2.resize(picture, (model.size, model.size), interpolation=cv2.INTER_AREA)]) for picture in (whole, part, other)]
    reference, crop, stranger = (model.encode_views(view) for view in views)
    copied = model.judge_views(crop, reference)
    assert copied.logit[0] > 0 > model.judge_views(stranger, reference).logit[0]
    frame = locate(copied.to_reference[0], copied.to_query[0])
    assert iou(frame, from_box(90 / 512, 30 / 512, 420 / 512, 330 / 512)) > 0.7

import numpy as np
import pytest
import torch

from matcher.errors import UsageError
from matcher.models.concat_vit import ConcatViT


def build(**more):
    return ConcatViT.build("timm:test_vit", **({"size": 32} | more)).eval()


def seen_by(model, query, reference):
    """What reaches the backbone when a query and a reference are judged."""
    seen = []
    hook = model.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    verdict = model.judge_views(model.encode_views(query), model.encode_views(reference))
    hook.remove()
    return seen, verdict


def views(count=2):
    return np.random.default_rng(0).integers(0, 256, (2, count, 32, 32, 3), dtype=np.uint8)


def test_square_canvas_has_the_reference_left_and_the_query_right():
    query, reference = np.full((1, 32, 32, 3), 255, np.uint8), np.zeros((1, 32, 32, 3), np.uint8)
    (canvas,), verdict = seen_by(build(), query, reference)
    assert canvas.shape == (1, 3, 32, 32) and not canvas[..., :16].any() and (canvas[..., 16:] == 1).all()
    assert verdict.logit.shape == (1,) and verdict.to_reference is None and verdict.to_query is None


def test_pictures_are_squashed_to_half_the_width():
    query, reference = views()
    (canvas,), _ = seen_by(build(), query, reference)
    for side, picture in ((canvas[..., 16:], query), (canvas[..., :16], reference)):
        squashed = picture.reshape(2, 32, 16, 2, 3).mean(axis=3).transpose(0, 3, 1, 2) / 255
        assert np.allclose(side, squashed, atol=0.51 / 255)  # kept as uint8


def test_wide_canvas_has_twice_the_width_and_every_pixel():
    query, reference = views()
    model = build(canvas="wide")
    (canvas,), _ = seen_by(model, query, reference)
    assert canvas.shape == (2, 3, 32, 64) and model.size == 32
    assert np.allclose(canvas, np.concatenate([reference, query], axis=2).transpose(0, 3, 1, 2) / 255, atol=1e-6)
    assert model.encode_views(query).nbytes == query.nbytes == 2 * build().encode_views(query).nbytes


@pytest.mark.parametrize("canvas", ["square", "wide"])
def test_symmetric_is_the_mean_of_both_orders(canvas):
    query, reference = views()
    plain, both = build(canvas=canvas), build(canvas=canvas, symmetric=True)
    cached = plain.encode_views(query), plain.encode_views(reference)
    there, back = plain.judge_views(*cached).logit, plain.judge_views(*cached[::-1]).logit
    assert np.allclose(both.judge_views(*cached).logit, (there + back) / 2, atol=1e-6) and not np.allclose(there, back, atol=1e-4)
    seen, _ = seen_by(both, query, reference)
    assert torch.equal(torch.cat(seen[0].chunk(2, dim=3)[::-1], dim=3), seen[1])


def test_the_logit_reads_the_class_token():
    model = build()
    canvas = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logit = model.judge(canvas[..., 16:], canvas[..., :16]).logit
        assert torch.allclose(logit, model.backbone.tokens(canvas)[:, 0] @ model.verdict.weight[0], atol=1e-5)


def test_the_wide_canvas_keeps_the_trained_places():
    square, wide = build(), build(canvas="wide")
    before, after = (model.backbone.network.pos_embed for model in (square, wide))
    assert before.shape[1] == 1 + 2 * 2 and after.shape[1] == 1 + 2 * 4
    assert torch.equal(before[:, 0], after[:, 0])  # of the class token
    rows = [places[0, 1:].reshape(2, -1, 64).mean(1) for places in (before, after)]
    assert torch.nn.functional.cosine_similarity(*rows).min() > 0.9  # stretched, not drawn again


@pytest.mark.parametrize(
    ("backbone", "more", "word"),
    [
        ("timm:test_vit", {"canvas": "tall"}, "no canvas 'tall'; there are: square, wide"),
        ("timm:test_resnet", {}, "timm:test_resnet is no ViT"),
    ],
)
def test_wrong_requests_are_usage_errors(backbone, more, word):
    with pytest.raises(UsageError, match=word) as caught:
        ConcatViT.build(backbone, **({"size": 32} | more))
    assert "\n" not in str(caught.value)

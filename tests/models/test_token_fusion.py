import copy

import numpy as np
import pytest
import torch

from matcher.errors import UsageError
from matcher.models.token_fusion import TokenFusion, mimic, summary
from matcher.models.tower import load_tower, load_trunk


@pytest.fixture(scope="module")
def model():
    return TokenFusion.build("timm:test_efficientnet", depth=4, size=64, width=16, joint=1, heads=2).eval()


@pytest.fixture(scope="module")
def views(model):
    return np.random.default_rng(0).integers(0, 256, (4, model.size, model.size, 3), dtype=np.uint8)


def test_shapes_and_ranges(model, views):
    cached = model.encode_views(views)
    patches = model.grid**2
    assert model.grid == 4 and cached.shape == (4, patches, 16) and cached.dtype == np.uint16
    verdict = model.judge_views(cached[:3], cached[1:])
    assert verdict.logit.shape == (3,) and verdict.to_reference.shape == verdict.to_query.shape == (3, patches, patches + 1)
    for told in (verdict.to_reference, verdict.to_query):
        assert told.dtype == np.float32 and (told >= 0).all() and np.allclose(told.sum(axis=2), 1, atol=1e-5)


def test_the_cache_holds_tokens_rounded_to_bfloat16(model, views):
    with torch.inference_mode():
        tokens = model.encode(torch.from_numpy(views).permute(0, 3, 1, 2) / 255)
    found = model.unpack(model.encode_views(views))
    assert found.dtype == torch.float32 and torch.equal(found, model.unpack(model.pack(tokens)))
    assert torch.allclose(found, tokens, rtol=2**-8, atol=0) and not torch.equal(found, tokens)


def test_likeness_there_and_back_is_the_same_but_for_nowhere(model, views):
    tokens = model.unpack(model.encode_views(views))
    with torch.inference_mode():
        said = model.judge(tokens[:2], tokens[2:])
    assert torch.equal(said.to_reference[..., :-1], said.to_query[..., :-1].mT)
    assert not torch.allclose(said.to_reference[..., -1], said.to_query[..., -1])


def test_a_patch_is_known_by_its_place(model):
    plain = model.unpack(model.encode_views(np.full((1, 64, 64, 3), 90, np.uint8)))[0]
    inner = [5, 6, 9, 10]  # far from the border, where padding differs
    assert (plain[inner][:, None] - plain[inner][None]).abs().amax(-1)[~torch.eye(4, dtype=torch.bool)].min() > 1e-3


def test_without_joint_blocks_of_its_own_it_takes_the_last_ones_of_the_vit():
    whole = load_trunk("timm:test_vit", size=32, weights=False, seed=3).network
    blocks = copy.deepcopy(whole.blocks)
    model = TokenFusion.build("timm:test_vit", depth=4, size=32, seed=3)
    assert model.width == 64 and model.joint is None and len(model.blocks) == 2 and len(model.tower.backbone.network.blocks) == 4
    for found, expected in zip([*model.tower.backbone.network.blocks, *model.blocks], blocks, strict=True):
        assert found.state_dict().keys() == expected.state_dict().keys()
        assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())
    stored = [key for key in model.state_dict() if key.endswith("attn.qkv.weight")]
    assert len(stored) == 6  # every block once


def test_the_joint_blocks_see_both_views(model, views):
    tokens = model.unpack(model.encode_views(views))
    seen = []
    hook = model.blocks.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.inference_mode():
        model.judge(tokens[:1], tokens[1:2])
    hook.remove()
    expected = torch.cat([model.pair[0], tokens[0] + model.sides[0, 0], tokens[1] + model.sides[1, 0]])
    assert torch.allclose(seen[0][0], expected, atol=1e-6)


def test_fresh_attention_begins_by_likeness():
    block = TokenFusion.build("timm:test_vit", depth=4, size=32, joint=2, heads=2).blocks[1]
    query, key, value = block.attn.qkv.weight.chunk(3)
    assert torch.equal(query, key) and not torch.equal(query, value)
    assert mimic(block) is block


def test_summary_of_a_perfect_and_of_an_empty_match():
    found = torch.full((1, 3, 4), -30.0)
    found[0, [0, 1, 2], [1, 2, 0]] = 30  # patch i lies in patch i + 1 of the other
    back = torch.full((1, 3, 4), -30.0)
    back[0, [1, 2, 0], [0, 1, 2]] = 30
    assert torch.allclose(summary(found, back), torch.tensor([[1.0, 1, 1, 1]]), atol=1e-5)
    nowhere = torch.full((1, 3, 4), -30.0)
    nowhere[..., -1] = 30
    assert torch.allclose(summary(nowhere, nowhere), torch.zeros(1, 4), atol=1e-5)
    assert torch.allclose(summary(found, nowhere), torch.tensor([[1.0, 0, 0, 0]]), atol=1e-5)


def test_summary_agrees_with_a_slow_loop():
    there, back = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    for row, found in enumerate(summary(there, back).tolist()):
        p, q = there[row].softmax(-1).tolist(), back[row].softmax(-1).tolist()
        both = [[p[i][j] * q[j][i] for j in range(3)] for i in range(3)]
        slow = [sum(sum(r[:3]) for r in p) / 3, sum(sum(r[:3]) for r in q) / 3, sum(map(sum, both)) / 3, max(map(max, both))]
        assert found == pytest.approx(slow, abs=1e-5)


@pytest.mark.parametrize(
    ("backbone", "more", "word"),
    [
        ("timm:test_vit", {"depth": 0}, "1 to 6 blocks, not 0"),
        ("timm:test_vit", {"depth": 7}, "1 to 6 blocks, not 7"),
        ("timm:test_vit", {"depth": 6}, "the tower must leave some"),
        ("timm:test_vit", {"depth": 4, "width": 32}, "width must be null"),
        ("timm:test_vit", {"depth": 4, "width": 30, "joint": 1, "heads": 4}, "heads must divide the width"),
        ("timm:test_vit", {"depth": 4, "joint": 0, "heads": 2}, "no joint blocks"),
        ("timm:test_vit", {"depth": 4, "joint": 1, "heads": 0}, "no joint blocks"),
        ("timm:test_vit", {"depth": 4, "width": -4, "joint": 1, "heads": 2}, "no joint blocks"),
        ("timm:test_efficientnet", {"depth": 4}, "the ViT's own last blocks"),
        ("timm:test_efficientnet", {"depth": 6, "joint": 1, "heads": 2}, "1 to 5 stages, not 6"),
    ],
)
def test_wrong_requests_are_usage_errors(backbone, more, word):
    with pytest.raises(UsageError, match=word) as caught:
        TokenFusion.build(backbone, size=32, **more)
    assert "\n" not in str(caught.value)


def test_blocks_of_the_vit_do_not_ask_for_heads():
    assert len(TokenFusion.build("timm:test_vit", depth=5, size=32, heads=5).blocks) == 1


def test_blocks_that_are_taken_are_not_kept_twice():
    tower = load_tower("timm:test_vit", depth=4, size=32, weights=False, seed=0)
    assert len(tower.rest) == 2
    TokenFusion(tower, width=None, joint=1, heads=2)
    assert tower.rest == []

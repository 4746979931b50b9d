import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes

from matcher.errors import MatcherError, UsageError
from matcher.models import checkpoint
from matcher.models.cards import digest, digest_all, read_card
from matcher.models.descriptor import Descriptor

CARD = {"training": {"epochs": 3}, "data": "drawn", "licences": ["CC0"], "commit": "abc", "numbers": {"uap": 0.5}}


def build(**more):
    return Descriptor.build("timm:test_resnet", **({"size": 32, "dim": 12, "pooling": "gem", "seed": 1} | more))


@pytest.fixture(scope="module")
def model():
    """A descriptor whose running averages have moved, as after training."""
    made = build()
    for step in range(3):
        made(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(step)))
    return made.eval()


@pytest.fixture
def file(model, tmp_path):
    return checkpoint.save(tmp_path / "small.safetensors", model, CARD)[0]


@pytest.fixture(scope="module")
def batch():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(9))


def rewrite(file, change_header=None, change_tensors=None):
    """The checkpoint with other contents and right checksums."""
    header, tensors = read_card(file), load_file(file)
    if change_tensors:
        tensors = change_tensors(tensors)
    if change_header:
        change_header(header)
    own = digest(as_bytes(tensors))
    header["part"] = {"number": 1, "of": 1, "sha256": own, "whole": digest_all([own])}
    file.write_bytes(as_bytes(tensors, {"matcher": json.dumps(header)}))


def test_saved_and_loaded_gives_the_same_numbers_bit_for_bit(model, file, batch):
    loaded = checkpoint.load(file, kind="Descriptor")
    assert torch.equal(loaded(batch), model(batch))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert loaded.arguments == model.arguments and loaded.preprocessing == model.preprocessing


def test_the_header_tells_what_the_card_told(model, file):
    card = checkpoint.load(file).card
    assert {key: card[key] for key in CARD} == CARD and card == read_card(file)
    assert card["class"] == "Descriptor" and card["preprocessing"]["size"] == 32
    assert card["arguments"] == json.loads(json.dumps(model.arguments))
    assert checkpoint.load(checkpoint.save(file, model, {})[0]).card["data"] is None


def test_the_same_model_gives_the_same_bytes_and_loading_draws_no_random_numbers(model, file, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = checkpoint.save(tmp_path / "again.safetensors", checkpoint.load(file), CARD)[0]
    assert again.read_bytes() == file.read_bytes() and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("pooling", "dim"), [("backbone", None), ("backbone", 8), ("mean", None), ("mean", 8)])
def test_every_kind_of_head_comes_back(tmp_path, batch, pooling, dim):
    model = build(pooling=pooling, dim=dim).eval()
    loaded = checkpoint.load(checkpoint.save(tmp_path / "a.safetensors", model, {})[0])
    assert torch.equal(loaded(batch), model(batch)) and loaded.dim == model.dim


def test_half_precision_is_that_of_the_rounded_matrices(model, tmp_path, batch):
    file = checkpoint.save(tmp_path / "half.safetensors", model, {}, half=True)[0]
    rounded = build().eval()
    rounded.load_state_dict({k: v.half().float() if v.is_floating_point() and v.ndim > 1 else v for k, v in model.state_dict().items()})
    loaded = checkpoint.load(file)
    assert torch.equal(loaded(batch), rounded(batch)) and all(p.dtype == torch.float32 for p in loaded.parameters())
    assert (loaded(batch) * model(batch)).sum(dim=1).min() > 0.9999
    assert file.stat().st_size < 0.62 * checkpoint.save(tmp_path / "full.safetensors", model, {})[0].stat().st_size


def test_split_and_joined(model, file, tmp_path, batch):
    limit = 700_000
    parts = checkpoint.save(tmp_path / "big.safetensors", model, CARD, split_at=limit)
    assert [p.name for p in parts] == [f"big-{n:05d}-of-{len(parts):05d}.safetensors" for n in range(1, len(parts) + 1)]
    assert len(parts) > 1 and all(p.stat().st_size <= limit for p in parts)
    for path in (tmp_path / "big.safetensors", parts[0], parts[-1]):
        assert torch.equal(checkpoint.load(path)(batch), model(batch))
    whole = checkpoint.save(tmp_path / "big.safetensors", model, CARD)
    assert whole == [tmp_path / "big.safetensors"] and not any(p.exists() for p in parts) and file.exists()
    checkpoint.save(tmp_path / "big.safetensors", model, CARD, split_at=limit)
    assert not whole[0].exists() and torch.equal(checkpoint.load(whole[0])(batch), model(batch))


def test_parts_that_do_not_belong_together_are_named(model, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    parts = checkpoint.save(tmp_path / "a" / "net.safetensors", model, {}, split_at=700_000)
    others = checkpoint.save(tmp_path / "b" / "net.safetensors", build(seed=2), {}, split_at=700_000)
    shutil.copy(others[0], parts[0])
    with pytest.raises(MatcherError, match="different savings"):
        checkpoint.load(parts[0])
    parts[1].unlink()
    with pytest.raises(MatcherError, match=f"lacks its part {parts[1].name}"):
        checkpoint.load(parts[0])


def test_a_tensor_that_cannot_be_split_is_named(model, tmp_path):
    with pytest.raises(MatcherError, match=r"network\.\S+ alone takes"):
        checkpoint.save(tmp_path / "a.safetensors", model, {}, split_at=20_000)
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_named(file):
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[-5] ^= 1
    end = 8 + int.from_bytes(content[:8], "little")
    cases = (
        (bytes(flipped), "checksum"),
        (content[:-9], "cut short"),
        (content[: end - 4], "cut short"),
        (b"", "no checkpoint"),
        (b"\xff" * 99, "no"),
    )
    for broken, word in cases:
        file.write_bytes(broken)
        with pytest.raises(MatcherError, match=word) as caught:
            checkpoint.load(file)
        assert str(file) in str(caught.value)


def test_tensors_that_do_not_fit_are_named(model, file):
    key = "head.0.weight"
    cases = (
        (lambda t: {k: v for k, v in t.items() if k != key}, rf"lacks {key}"),
        (lambda t: t | {"extra": torch.zeros(1)}, "no place for extra"),
        (lambda t: t | {key: t[key][:5].clone()}, rf"{key} has shape \(5, "),
        (lambda t: t | {key: t[key].half()}, rf"{key} is torch.float16, not torch.float32"),
    )
    for change, word in cases:
        checkpoint.save(file, model, CARD)
        rewrite(file, change_tensors=change)
        with pytest.raises(MatcherError, match=word):
            checkpoint.load(file)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda h: h["preprocessing"].update(mean=[0, 0, 0]), r"trained with mean \[0, 0, 0\]"),
        (lambda h: h["preprocessing"].update(colours="BGR"), "trained with colours BGR"),
        (lambda h: h["arguments"].update(size=64), "trained with size 32"),
        (lambda h: h["arguments"].update(turbo=True), "arguments that do not fit"),
        (lambda h: h["arguments"].pop("dim"), "arguments that do not fit"),
        (lambda h: h["arguments"].update(name="timm:no_such_net"), "no_such_net"),
        (lambda h: h["arguments"].update(pooling="max"), "no pooling 'max'"),
        (lambda h: h.update({"class": "Oracle"}), "a Oracle, which this version"),
        (lambda h: h.pop("arguments"), "lacks arguments"),
    ],
)
def test_headers_that_do_not_fit_are_named(file, change, word):
    rewrite(file, change_header=change)
    with pytest.raises(MatcherError, match=word) as caught:
        checkpoint.load(file)
    assert file.name in str(caught.value)


def test_another_kind_than_needed_is_refused(file):
    with pytest.raises(MatcherError, match="holds a Descriptor, and a OverlayDetector"):
        checkpoint.load(file, kind="OverlayDetector")


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        checkpoint.save(tmp_path / "a.pt", build(), {})
    with pytest.raises(UsageError, match="a Linear cannot be saved"):
        checkpoint.save(tmp_path / "a.safetensors", torch.nn.Linear(1, 1), {})
    with pytest.raises(UsageError, match="no key 'licenses'"):
        checkpoint.save(tmp_path / "a.safetensors", build(), {"licenses": []})
    with pytest.raises(UsageError, match="no JSON"):
        checkpoint.save(tmp_path / "a.safetensors", build(), {"numbers": {"uap": float("nan")}})
    with pytest.raises(MatcherError, match="cannot write"):
        checkpoint.save(tmp_path / "none" / "a.safetensors", build(), {})
    large = build()
    large.head[0].weight.data[0, 0] = 1e6
    checkpoint.save(tmp_path / "a.safetensors", large, {})
    with pytest.raises(MatcherError, match=r"head\.0\.weight holds numbers that are not finite in half"):
        checkpoint.save(tmp_path / "a.safetensors", large, {}, half=True)


def test_nothing_is_unpickled(tmp_path):
    torch.save(build().state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(MatcherError, match="no checkpoint of matcher"):
        checkpoint.load(tmp_path / "a.safetensors")

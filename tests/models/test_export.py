import sys

import numpy as np
import pytest
import torch

from matcher.errors import MatcherError
from matcher.models import export
from matcher.models.concat_vit import ConcatViT
from matcher.models.descriptor import Descriptor
from matcher.models.token_fusion import TokenFusion

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def model():
    made = Descriptor.build("timm:test_resnet", size=32, dim=12, pooling="gem")
    made(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return made


@pytest.fixture(scope="module")
def content(model):
    return export.as_onnx(model)


@pytest.fixture
def exported(content, monkeypatch):
    monkeypatch.setattr(export, "as_onnx", lambda model: content)  # exporting takes seconds


def test_onnx_gives_what_torch_gives_for_any_number_of_pictures(model, content):
    assert model.training  # exported as it infers, and left as it was
    for count in (1, 5):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        rows = export.run_onnx(content, pictures=np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 255)["rows"]
        assert rows.shape == (count, 12) and np.allclose(rows, model.describe(pixels), atol=1e-5)


def test_parity_is_measured_and_told(model, exported, content, tmp_path):
    parity = export.export_onnx(model, tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == content and model.training
    assert 0 <= parity.largest_difference < 1e-5 and abs(parity.smallest_cosine - 1) < 1e-5
    assert "a.onnx" in str(parity) and parity.as_dict()["pictures"] == export.PICTURES


def test_a_file_that_differs_is_not_written(exported, tmp_path):
    other = Descriptor.build("timm:test_resnet", size=32, dim=12, pooling="gem", seed=5)
    with pytest.raises(MatcherError, match="not written"):
        export.export_onnx(other, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_named(model, exported, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MatcherError, match="pip install onnx onnxscript onnxruntime"):
        export.export_onnx(model, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("error", "word"), [(ImportError("no onnxscript"), "pip install"), (RuntimeError("odd\nlines"), "could not export")]
)
def test_what_torch_cannot_export_is_one_sentence(model, monkeypatch, error, word):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(MatcherError, match=word) as caught:
        export.as_onnx(model)
    assert "\n" not in str(caught.value)


def build_fusion(seed):
    return TokenFusion.build("timm:test_efficientnet", depth=2, size=16, width=16, joint=1, heads=2, seed=seed)


def draw_sides(model):
    return torch.rand(2, 3, 3, model.size, model.size, generator=torch.Generator().manual_seed(5))


def test_a_pair_model_gives_what_torch_gives_for_any_number_of_pairs(monkeypatch, tmp_path):
    model = build_fusion(0)
    parity = export.export_onnx(model, tmp_path / "a.onnx")
    assert parity.largest_difference < 1e-4 and parity.smallest_cosine is None and "random pairs" in str(parity) and model.training
    content, (query, reference) = (tmp_path / "a.onnx").read_bytes(), draw_sides(model)
    found = export.run_onnx(content, query=query.numpy(), reference=reference.numpy())
    with torch.inference_mode():
        said = model.eval().judge(model.encode(query), model.encode(reference))
    assert list(found) == ["logit", "to_reference", "to_query"]
    for name, value in found.items():
        assert np.allclose(value, getattr(said, name).numpy(), atol=1e-4)
    monkeypatch.setattr(export, "as_onnx", lambda model: content)
    with pytest.raises(MatcherError, match="not written"):
        export.export_onnx(build_fusion(1), tmp_path / "b.onnx")


def test_a_pair_model_that_tells_no_places_gives_its_logit_alone():
    model = ConcatViT.build("timm:test_vit", size=32, canvas="wide").eval()
    query, reference = draw_sides(model)
    assert export.name_tensors(model) == (["query", "reference"], ["logit"])
    assert list(export.run_torch(model, export.draw_inputs(model, 0))) == ["logit"]
    with torch.inference_mode():
        (logit,) = export.PairGraph(model)(query, reference)
        assert torch.allclose(logit, model(query, reference), atol=1e-6) and not torch.allclose(logit, model(reference, query), atol=1e-6)

import sys

import numpy as np
import pytest
import torch

from matcher.errors import MatcherError
from matcher.models import export
from matcher.models.descriptor import Descriptor

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
        rows = export.run_onnx(content, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 255)
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

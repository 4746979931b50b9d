"""Descriptor -> ONNX, and how far the exported one is from torch."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from matcher.errors import MatcherError
from matcher.models.descriptor import Descriptor, evaluating
from matcher.storage.aside import write_aside

PICTURES = 8


@dataclass(frozen=True)
class Parity:
    """What ONNX Runtime gives of an exported model, against torch, on random pictures."""

    path: str
    pictures: int
    largest_difference: float  # of any number in any descriptor
    smallest_cosine: float  # between the two descriptors of a picture

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.path}: on {self.pictures} random pictures ONNX Runtime differs from torch by {self.largest_difference:.1e} at most "
            f"(smallest cosine {self.smallest_cosine:.7f})"
        )


def export_onnx(model: Descriptor, path: str | Path, *, tolerance: float = 1e-4, seed: int = 0) -> Parity:
    """Descriptor -> NAME.onnx: input ``pictures`` (B, 3, size, size) float32 RGB in 0..1, output ``rows`` (B, dim) unit vectors.

    The file is written only if ONNX Runtime gives what torch gives on random pictures of ``seed``; MatcherError if the numbers
    differ by more than ``tolerance``, or if onnx, onnxscript or onnxruntime is not installed.
    """
    pictures = torch.rand(PICTURES, 3, model.size, model.size, generator=torch.Generator().manual_seed(seed))
    with evaluating(model), torch.inference_mode():
        expected = model(pictures.to(model.backbone.mean.device)).cpu().numpy()
    content = as_onnx(model)
    found = run_onnx(content, pictures.numpy())
    parity = Parity(str(path), PICTURES, float(np.abs(found - expected).max()), float((found * expected).sum(axis=1).min()))
    if not parity.largest_difference <= tolerance:
        raise MatcherError(f"not written: {parity}, more than {tolerance:.0e}")
    with write_aside(path) as stream:
        stream.write(content)
    return parity


def as_onnx(model: Descriptor) -> bytes:
    """Descriptor -> bytes of an ONNX model whose batch may have any length."""
    example = torch.zeros(2, 3, model.size, model.size, device=model.backbone.mean.device)
    buffer = io.BytesIO()
    try:
        with evaluating(model):
            program = torch.onnx.export(
                model,
                (example,),
                input_names=["pictures"],
                output_names=["rows"],
                dynamic_shapes={"batch": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.save(buffer)
    except ImportError as error:
        raise not_installed(error) from error
    except Exception as error:  # of torch's exporter
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise MatcherError(f"torch could not export this descriptor to ONNX ({type(error).__name__}: {first})") from error
    return buffer.getvalue()


def run_onnx(content: bytes, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bytes of an ONNX model and pictures (B, 3, S, S) -> its rows (B, dim) on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise not_installed(error) from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["rows"], {"pictures": pictures})[0])


def not_installed(error: ImportError) -> MatcherError:
    return MatcherError(f"ONNX export needs packages that are not installed: pip install onnx onnxscript onnxruntime ({error})")

"""Descriptors and pair models -> ONNX, and how far the exported one is from torch."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from matcher.errors import MatcherError
from matcher.models.descriptor import Descriptor, evaluating
from matcher.models.pair_model import PairModel
from matcher.models.token_fusion import TokenFusion
from matcher.storage.aside import write_aside

PICTURES = 8
Named = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Parity:
    """What ONNX Runtime gives of an exported model, against torch, on random pictures."""

    path: str
    pictures: int  # or pairs of them
    largest_difference: float  # of any number in any output
    smallest_cosine: float | None  # between the two descriptors of a picture; None of a pair model

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        what = "pictures" if self.smallest_cosine is not None else "pairs"
        cosine = "" if self.smallest_cosine is None else f" (smallest cosine {self.smallest_cosine:.7f})"
        largest = f"ONNX Runtime differs from torch by {self.largest_difference:.1e} at most"
        return f"{self.path}: on {self.pictures} random {what} {largest}{cosine}"


class PairGraph(nn.Module):
    """Views (P, 3, size, size) of both sides -> the fields of the judgement that there are, as a tuple."""

    def __init__(self, model: PairModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, query: Tensor, reference: Tensor) -> tuple[Tensor, ...]:
        both = self.model.encode(torch.cat([query, reference]))  # at once: the graph holds the tower a single time
        said = self.model.judge(both[: len(query)], both[len(query) :])
        return tuple(one for one in (said.logit, said.to_reference, said.to_query) if one is not None)


def export_onnx(model: Descriptor | PairModel, path: str | Path, *, tolerance: float = 1e-4, seed: int = 0) -> Parity:
    """Model -> NAME.onnx; inputs are float32 RGB in 0..1, and their number may be any.

    Of a descriptor: input ``pictures`` (B, 3, size, size), output ``rows`` (B, dim) unit vectors. Of a pair model: inputs ``query`` and
    ``reference`` (P, 3, size, size), output ``logit`` (P,); of a TokenFusion also the logits ``to_reference`` and ``to_query``
    (P, T, T + 1). The file is written only if ONNX Runtime gives what torch gives on random pictures of ``seed``; MatcherError if the
    numbers differ by more than ``tolerance``, or if onnx, onnxscript or onnxruntime is not installed.
    """
    inputs = draw_inputs(model, seed)
    expected = run_torch(model, inputs)
    content = as_onnx(model)
    found = run_onnx(content, **inputs)
    largest = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
    cosine = float((found["rows"] * expected["rows"]).sum(axis=1).min()) if "rows" in expected else None
    parity = Parity(str(path), PICTURES, largest, cosine)
    if not parity.largest_difference <= tolerance:
        raise MatcherError(f"not written: {parity}, more than {tolerance:.0e}")
    with write_aside(path) as stream:
        stream.write(content)
    return parity


def name_tensors(model: Descriptor | PairModel) -> tuple[list[str], list[str]]:
    """Model -> names of its inputs and of its outputs."""
    if isinstance(model, Descriptor):
        return ["pictures"], ["rows"]
    return ["query", "reference"], ["logit", "to_reference", "to_query"] if isinstance(model, TokenFusion) else ["logit"]


def draw_inputs(model: Descriptor | PairModel, seed: int) -> Named:
    """Random pictures (PICTURES, 3, size, size) under the names of the model's inputs."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(PICTURES, 3, model.size, model.size, generator=generator).numpy() for name in name_tensors(model)[0]}


def run_torch(model: Descriptor | PairModel, inputs: Named) -> Named:
    """Named inputs -> what the model gives of them in eval mode, by name."""
    graph = PairGraph(model) if isinstance(model, PairModel) else model
    with evaluating(model), torch.inference_mode():
        given = graph(*(torch.from_numpy(value).to(device_of(model)) for value in inputs.values()))
    given = given if isinstance(given, tuple) else (given,)
    return {name: value.cpu().numpy() for name, value in zip(name_tensors(model)[1], given, strict=True)}


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def as_onnx(model: Descriptor | PairModel) -> bytes:
    """Model -> bytes of an ONNX model whose batch may have any length."""
    inputs, outputs = name_tensors(model)
    examples = tuple(torch.zeros(2, 3, model.size, model.size, device=device_of(model)) for _ in inputs)  # one would pass for both sides
    batches = {0: torch.export.Dim("batch")}, {0: torch.export.Dim.AUTO}
    buffer = io.BytesIO()
    try:
        with evaluating(model):
            program = torch.onnx.export(
                PairGraph(model).eval() if isinstance(model, PairModel) else model,
                examples,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=batches[: len(inputs)],
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.save(buffer)
    except ImportError as error:
        raise not_installed(error) from error
    except Exception as error:  # of torch's exporter
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise MatcherError(f"torch could not export this {type(model).__name__} to ONNX ({type(error).__name__}: {first})") from error
    return buffer.getvalue()


def run_onnx(content: bytes, **inputs: NDArray[np.float32]) -> Named:
    """Bytes of an ONNX model and its inputs by name -> its outputs by name, on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise not_installed(error) from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {name: np.asarray(value) for name, value in zip(names, session.run(names, inputs), strict=True)}


def not_installed(error: ImportError) -> MatcherError:
    return MatcherError(f"ONNX export needs packages that are not installed: pip install onnx onnxscript onnxruntime ({error})")

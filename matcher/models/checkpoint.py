"""Trained models <-> safetensors that describe themselves: strict, without pickle, in one file or in several small ones.

A class can be saved if it is in KINDS and has ``arguments`` (what makes it again, as JSON) and ``preprocessing`` (what it
expects of pictures). It is made again by its ``from_arguments``, or by its constructor if it has none.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from matcher.errors import MatcherError, UsageError
from matcher.models.cards import CARD_KEYS, checkpoint_files, checkpoint_name, digest, digest_all, part_paths, read_header
from matcher.storage.aside import write_aside

KINDS = {
    "Descriptor": "matcher.models.descriptor",
    "OverlayDetector": "matcher.models.overlay_yolo",
    "ConcatViT": "matcher.models.concat_vit",
    "TokenFusion": "matcher.models.token_fusion",
    "Vlad": "matcher.models.vlad",
}
SPLIT_AT = 16_000_000  # bytes
LARGEST = 2048  # pixels a side of what a model looks at
SPARE, TIMES = (
    512 * 2**20,
    8,
)  # bytes, and times its weights: a network is made whole, with classifier, before what is not used is taken off
LIBRARY = re.compile(r"(timm|transformers):[\w.-]+")
FETCHING = {
    *("auto_map", "trust_remote_code", "use_pretrained_backbone", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("checkpoint_path", "cache_dir"),
}
Tensors = dict[str, Tensor]


def save(path: str | Path, model: nn.Module, card: Mapping[str, Any], *, half: bool = False, split_at: int | None = SPLIT_AT) -> list[Path]:
    """Model and card (any of training, data, licences, commit, numbers) -> the files written; the same model gives the same bytes.

    Args:
        path: NAME.safetensors; several files are NAME-00001-of-00002.safetensors and so on
        half: store matrices and kernels as float16; vectors (biases, norms, running averages) keep all their digits
        split_at: no file has more bytes than this; null = one file

    UsageError if the class or a key of the card is unknown; MatcherError if a weight is not finite, or cannot be split.
    """
    folder, name = checkpoint_name(path)
    header = make_header(model, card, half=half)
    tensors = {key: stored(key, value, half=half) for key, value in model.state_dict().items()}
    parts = split(tensors, None if split_at is None else split_at - len(json.dumps(header)) - 1000)
    digests = [digest(safetensors.torch.save(part)) for part in parts]
    files = part_paths(folder / f"{name}.safetensors", len(parts))
    for number, (file, part) in enumerate(zip(files, parts, strict=True)):
        header["part"] = {"number": number + 1, "of": len(parts), "sha256": digests[number], "whole": digest_all(digests)}
        with write_aside(file) as stream:
            stream.write(safetensors.torch.save(part, {"matcher": json.dumps(header, sort_keys=True)}))
    remove_others(folder, name, files)
    return files


def make_header(model: nn.Module, card: Mapping[str, Any], *, half: bool) -> dict[str, Any]:
    """Model and card -> the JSON header, without the part's own entry."""
    kind = type(model).__name__
    if kind not in KINDS:
        raise UsageError(f"a {kind} cannot be saved as a checkpoint; there are: {', '.join(KINDS)}")
    if unknown := sorted(set(card) - set(CARD_KEYS)):
        raise UsageError(f"a card has no key {unknown[0]!r}; there are: {', '.join(CARD_KEYS)}")
    header = {"class": kind, "arguments": model.arguments, "preprocessing": model.preprocessing, "half": half}
    header |= {key: card.get(key) for key in CARD_KEYS}
    try:
        return json.loads(json.dumps(header, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the card of a {kind} is no JSON: {error}") from error


def stored(key: str, tensor: Tensor, *, half: bool) -> Tensor:
    """A tensor of the model -> as it lies in the file, on the CPU, sharing memory with nothing."""
    value = tensor.detach().to("cpu", stored_dtype(tensor, half=half), copy=True).contiguous()
    if value.is_floating_point() and not value.isfinite().all():
        raise MatcherError(f"cannot save: {key} holds numbers that are not finite{' in half precision' if half else ''}")
    return value


def stored_dtype(tensor: Tensor, *, half: bool) -> torch.dtype:
    return torch.float16 if half and tensor.is_floating_point() and tensor.ndim > 1 else tensor.dtype


def split(tensors: Tensors, limit: int | None) -> list[Tensors]:
    """Tensors -> parts in the same order, each with at most ``limit`` bytes together with its header lines."""
    parts: list[Tensors] = [{}]
    room = left = float("inf") if limit is None else limit
    for key, tensor in tensors.items():
        size = tensor.nbytes + len(key) + 150  # a header line: name, type, shape, offsets
        if size > room:
            raise MatcherError(f"{key} alone takes {tensor.nbytes:,} bytes: raise split_at, or store it half")
        if size > left:
            parts.append({})
            left = room
        parts[-1][key] = tensor
        left -= size
    return parts


def remove_others(folder: Path, name: str, files: list[Path]) -> None:
    """Remove the files of an older saving under this name that the new one did not replace."""
    for file in folder.glob("*.safetensors"):
        if checkpoint_name(file)[1] == name and file not in files:
            file.unlink()


def load(path: str | Path, *, kind: str | None = None) -> nn.Module:
    """Checkpoint (its path, or that of one of its parts) -> the model in eval mode, without gradients, on the CPU, in float32.

    ``kind``: the class that it must be. The model's ``card`` is the file's header. MatcherError names what is missing, damaged, of
    another shape, type or preprocessing. torch's own generator is left as it was.
    """
    headers, tensors = read_parts(path)
    header = headers[0]
    held = sum(tensor.numel() * 4 for tensor in tensors.values())
    model = rebuild(header, path, kind=kind, most=SPARE + TIMES * held)
    check_preprocessing(model, header, path)
    check_tensors(model.state_dict(), tensors, path, half=header["half"])
    model.load_state_dict(tensors, strict=True)
    model.card = header
    return model.eval().requires_grad_(False)


def read_parts(path: str | Path) -> tuple[list[dict[str, Any]], Tensors]:
    """Checkpoint -> the header of every file, and all tensors, after their checksums were compared."""
    headers: list[dict[str, Any]] = []
    tensors: Tensors = {}
    for file in checkpoint_files(path):
        header = read_header(file)
        try:
            content = file.read_bytes()
            found = safetensors.torch.load(content)
        except (OSError, SafetensorError) as error:
            raise MatcherError(f"checkpoint {file} is damaged or cut short: fetch it again, or make it again") from error
        if digest(content) != header["part"]["sha256"]:
            raise MatcherError(f"checkpoint {file} is damaged: its checksum differs; copy it again")
        headers.append(header)
        tensors |= found
    whole = digest_all([header["part"]["sha256"] for header in headers])
    if any(header["part"]["whole"] != whole for header in headers):
        raise MatcherError(f"the parts of checkpoint {path} come from different savings; copy all of them again")
    return headers, tensors


def rebuild(header: Mapping[str, Any], path: str | Path, *, kind: str | None, most: int) -> nn.Module:
    """Header -> a model of its class with random weights, of no more than ``most`` bytes on the way."""
    name, arguments = header["class"], header["arguments"]
    if name not in KINDS:
        raise MatcherError(f"checkpoint {path} holds a {name}, which this version of matcher does not know")
    if kind is not None and name != kind:
        raise MatcherError(f"checkpoint {path} holds a {name}, and a {kind} is needed here")
    made = getattr(import_module(KINDS[name]), name)
    try:
        refuse_arguments(arguments)
        with torch.random.fork_rng(devices=[]), no_larger_than(most):
            return getattr(made, "from_arguments", made)(**arguments)
    except MatcherError as error:
        raise MatcherError(f"checkpoint {path}: {error}") from error
    except Exception as error:  # of torch and of the libraries of networks, which raise anything
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise MatcherError(f"checkpoint {path} has arguments that do not fit {name}: {told}") from error


def refuse_arguments(arguments: Any, key: str = "arguments") -> None:
    """MatcherError if something in the header would fetch files, run code that is not installed, or look at huge pictures."""
    pairs = arguments.items() if isinstance(arguments, dict) else enumerate(arguments) if isinstance(arguments, list) else ()
    for name, value in pairs:
        where = f"{key}.{name}"
        if name in FETCHING and value:
            raise MatcherError(f"{where} is {value!s:.60}, which a checkpoint may not ask for: it would fetch files or run code")
        if name == "size" and isinstance(value, int | float) and value > LARGEST:
            raise MatcherError(f"{where} is {value}, and no model here looks at more than {LARGEST} pixels a side")
        if where == "arguments.name" and not LIBRARY.fullmatch(str(value)):
            raise MatcherError(f"{where} is {value!s:.60}, not timm:NAME or transformers:NAME")
        refuse_arguments(value, where)


@contextmanager
def no_larger_than(most: int) -> Iterator[None]:
    """Modules that this thread makes in the block may have so many bytes of weights (float32); MatcherError before more are touched."""
    thread, made = threading.get_ident(), 0

    def count(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        nonlocal made
        if weight is not None and threading.get_ident() == thread:
            made += weight.numel() * 4
            if made > most:
                raise MatcherError(f"its header asks for a model of more than {made:,} bytes, far more than its files hold")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def check_preprocessing(model: nn.Module, header: Mapping[str, Any], path: str | Path) -> None:
    """MatcherError if the model prepares pictures in another way than the one it was trained with."""
    trained, made = header["preprocessing"], json.loads(json.dumps(model.preprocessing))
    for key in sorted(trained.keys() | made.keys()):
        if trained.get(key) != made.get(key):
            raise MatcherError(f"checkpoint {path} was trained with {key} {trained.get(key)}, and its model is made with {made.get(key)}")


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str | Path, *, half: bool) -> None:
    """MatcherError if a tensor is missing, too much, of another shape, or of another type."""
    for problem, keys in (("lacks", expected.keys() - found.keys()), ("has no place for", found.keys() - expected.keys())):
        if keys:
            subject = f"checkpoint {path}" if problem == "lacks" else f"the model of checkpoint {path}"
            raise MatcherError(f"{subject} {problem} {sorted(keys)[0]} ({len(keys)} such)")
    for key, tensor in expected.items():
        dtype = stored_dtype(tensor, half=half)
        if found[key].shape != tensor.shape:
            raise MatcherError(f"checkpoint {path}: {key} has shape {tuple(found[key].shape)}, the model {tuple(tensor.shape)}")
        if found[key].dtype != dtype:
            raise MatcherError(f"checkpoint {path}: {key} is {found[key].dtype}, not {dtype}")

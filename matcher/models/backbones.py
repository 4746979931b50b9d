"""Image backbones by name or folder, timm's and transformers', with the preprocessing that they were trained with.

A backbone takes pictures in 0..1 and normalises them itself, so preprocessing cannot come apart from the weights.
Weights are read from safetensors only, never from pickles, and every tensor must find its place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from matcher.errors import MatcherError, UsageError
from matcher.models.readers import Reader, TimmReader, TransformersReader
from matcher.settings import DescriptorSettings

WEIGHTS = "model.safetensors"
HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.", "head.", "decoder.", "lm_head.", "vit.pooler.")


class Backbone(nn.Module):
    """Pictures (B, 3, size, size), float RGB in 0..1 -> features (B, dim), pooled as the network pools (CLS or mean).

    Attributes:
        name: "timm:NAME" or "transformers:NAME"
        config: what the library needs beside the name to make the network again, without files
        size: side of the square input in pixels
        mean, std: of the training pictures, (1, 3, 1, 1)
        dim: numbers in a feature
        width: numbers in a token, once ``read_tokens`` was called
        turned: the network takes pictures, and gives maps, turned by 180 degrees, see ``models.inference``
    """

    mean: Tensor
    std: Tensor
    prefix: int

    def __init__(
        self,
        network: nn.Module,
        reader: Reader,
        *,
        name: str,
        config: dict[str, Any],
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network, self.reader, self.name, self.config, self.size = network, reader, name, config, size
        self.preprocessing = {"size": size, "mean": list(mean), "std": list(std)}
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1), persistent=False)
        self.width: int | None = None
        self.turned = False
        with torch.inference_mode():
            self.dim = int(self.eval()(torch.zeros(1, 3, size, size)).shape[1])

    def forward(self, batch: Tensor) -> Tensor:
        return self.reader.pooled(self.network, self.normalise(batch))

    def normalise(self, batch: Tensor) -> Tensor:
        """Pictures as above -> as the network takes them."""
        normal = (batch - self.mean).div_(self.std)
        return normal.flip(2, 3) if self.turned else normal

    def tokens(self, batch: Tensor) -> Tensor:
        """Pictures as above -> (B, T, width): class token and registers (``prefix`` of them) first, then the places row by row."""
        tokens = self.reader.tokens(self.network, self.normalise(batch))
        return tokens.flip(1) if self.turned else tokens

    @property
    def has_class(self) -> bool:
        """Is the first token a class token?"""
        return self.reader.has_class(self.network)

    def read_tokens(self) -> int:
        """Take off what only the network's own pooling needs, so that it is neither trained nor stored -> width."""
        used: set[nn.Module] = set()
        hooks = [module.register_forward_pre_hook(lambda module, _: used.add(module)) for module in self.network.modules()]
        with torch.inference_mode():
            _, count, self.width = self.eval().tokens(torch.zeros(1, 3, self.size, self.size)).shape
        for hook in hooks:
            hook.remove()
        for name, child in list(self.network.named_children()):
            if any(True for _ in child.parameters()) and used.isdisjoint(child.modules()):
                setattr(self.network, name, nn.Identity())
        self.prefix = self.reader.prefix(self.network, count, self.size)
        return self.width


def load_backbone(settings: DescriptorSettings) -> Backbone:
    """Settings -> the backbone in eval mode, on the CPU.

    MatcherError if the weights cannot be had or do not fit; UsageError if the name cannot be right. Random weights
    (``weights: false``) come from ``settings.seed`` and leave torch's own generator as it was.
    """
    (named,) = settings.members
    kind, _, name = named.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if kind == "timm" and name:
            return load_timm(name, settings)
        if kind == "transformers" and name:
            return load_transformers(name, settings)
        folder = Path(named).expanduser()
        if named and folder.is_dir():
            return load_folder(folder, settings)
    raise UsageError(f"backbone {named!r} is neither timm:NAME, nor transformers:NAME, nor a folder that exists")


def load_folder(folder: Path, settings: DescriptorSettings) -> Backbone:
    """Folder with config.json and model.safetensors, as timm or transformers write them -> backbone."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MatcherError(f"backbone folder {folder} has no readable config.json ({type(error).__name__})") from error
    if settings.weights and not (folder / WEIGHTS).is_file():
        raise MatcherError(f"backbone folder {folder} has no {WEIGHTS}; other formats are not read, save the weights as safetensors")
    if isinstance(config, dict) and isinstance(config.get("architecture"), str):
        return load_timm(f"local-dir:{folder}", settings)
    if isinstance(config, dict) and "model_type" in config:
        return load_transformers(str(folder), settings)
    raise MatcherError(f"{folder / 'config.json'} names neither a timm architecture nor a transformers model_type")


def load_timm(name: str, settings: DescriptorSettings) -> Backbone:
    """timm's name (or local-dir:FOLDER) -> backbone: loaded whole with its classifier, which is then taken off."""
    import timm

    overlay: dict[str, Any] = {}
    architecture, config = timm_config(name)
    if settings.weights:
        folder = name.removeprefix("local-dir:")
        file = fetch_timm_weights(name) if folder == name else str(Path(folder) / WEIGHTS)
        overlay = {"file": file, "source": "file", "custom_load": False}
    try:
        network = timm.create_model(name, pretrained=settings.weights, pretrained_cfg_overlay=overlay or None)
    except Exception as error:  # timm raises anything from KeyError to RuntimeError
        raise MatcherError(f"timm could not make {name!r}: {first_line(error)}") from error
    data = timm.data.resolve_model_data_config(network)
    size = settings.size or int(data["input_size"][-1])
    resize_timm(network, settings.size)
    return make(network, TimmReader(), f"timm:{architecture}", config=config, size=size, mean=data["mean"], std=data["std"])


def timm_config(name: str) -> tuple[str, dict[str, Any]]:
    """timm's name (or local-dir:FOLDER) -> architecture and the arguments that make it, which only folders add to the name."""
    folder = name.removeprefix("local-dir:")
    if folder == name:
        return name, {}
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return config["architecture"], dict(config.get("model_args") or {})


def resize_timm(network: Any, size: int | None) -> None:
    """Take the classifier off, and let networks with position embeddings see pictures of that size."""
    network.reset_classifier(0)
    if size and hasattr(network, "set_input_size"):
        network.set_input_size(img_size=(size, size))


def rebuild_backbone(name: str, *, config: dict[str, Any], size: int, mean: Sequence[float], std: Sequence[float]) -> Backbone:
    """Attributes of a backbone -> the same network with random weights, made without files or a hub. MatcherError if it cannot be."""
    kind, _, architecture = name.partition(":")
    try:
        network, reader = rebuild_timm(architecture, config, size) if kind == "timm" else rebuild_transformers(config)
    except Exception as error:  # both libraries raise anything
        raise MatcherError(f"backbone {name} cannot be made by the installed libraries: {first_line(error)}") from error
    return make(network, reader, name, config=config, size=size, mean=mean, std=std)


def rebuild_timm(architecture: str, config: dict[str, Any], size: int) -> tuple[nn.Module, Reader]:
    import timm

    network = timm.create_model(architecture, pretrained=False, **config)
    resize_timm(network, size)
    return network, TimmReader()


def rebuild_transformers(config: dict[str, Any]) -> tuple[nn.Module, Reader]:
    import transformers

    network = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config["model"]), trust_remote_code=False)
    return network, TransformersReader(config["pooler"])


def fetch_timm_weights(name: str) -> str:
    """timm's name -> path of its safetensors, from the cache or the hub."""
    import timm
    from huggingface_hub import hf_hub_download

    try:
        config = timm.get_pretrained_cfg(name)
    except Exception as error:
        raise MatcherError(f"timm knows no model {name!r}: {first_line(error)}") from error
    if config is None or not config.hf_hub_id:
        raise MatcherError(f"timm has no trained weights on the hub for {name!r}; name a variant that has, or set weights: false")
    filename = config.hf_hub_filename if (config.hf_hub_filename or "").endswith(".safetensors") else WEIGHTS
    try:
        return str(hf_hub_download(config.hf_hub_id, filename))
    except Exception as error:  # of the network, the cache or the hub
        raise unavailable(f"timm:{name}", error) from error


def load_transformers(name: str, settings: DescriptorSettings) -> Backbone:
    """transformers' name or a folder -> backbone. Features: the image features of a text-image model, else the pooled output, else CLS."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        preprocessing = transformers.ImageProcessingMixin.get_image_processor_dict(name)[0]
        if settings.weights:
            network, loading = transformers.AutoModel.from_pretrained(
                name, config=config, use_safetensors=True, output_loading_info=True, trust_remote_code=False
            )
        else:
            network, loading = transformers.AutoModel.from_config(config, trust_remote_code=False), {}
    except Exception as error:  # OSError, ValueError, ImportError, errors of the hub
        raise unavailable(f"transformers:{name}", error) from error
    pooled = check_loading(name, loading)
    size = settings.size or input_size(preprocessing, config)
    mean, std = preprocessing.get("image_mean"), preprocessing.get("image_std")
    if not mean or not std:
        raise MatcherError(f"backbone {name} does not say image_mean and image_std in its preprocessor_config.json")
    made_by = {"model": json.loads(network.config.to_json_string(use_diff=False)), "pooler": pooled}
    kind = f"transformers:{network.config.model_type}"
    return make(network, TransformersReader(pooled), kind, config=made_by, size=size, mean=mean, std=std)


def check_loading(name: str, loading: dict[str, Any]) -> bool:
    """What transformers says of loading -> is the pooler's output trained? MatcherError if weights do not fit."""
    missing = sorted(loading.get("missing_keys", ()))
    lost = [key for key in missing if not key.startswith("pooler.")]
    left = [key for key in sorted(loading.get("unexpected_keys", ())) if not key.startswith(HEADS)]
    shapes = sorted(str(key) for key in loading.get("mismatched_keys", ()))
    for problem, keys in (("lack", lost), ("hold what the model has no place for:", left), ("differ in shape at", shapes)):
        if keys:
            raise MatcherError(f"the weights of backbone {name} do not fit: they {problem} {keys[0]} ({len(keys)} such)")
    return not missing


def input_size(preprocessing: dict[str, Any], config: Any) -> int:
    """What the image processor crops or resizes to, else the model's own image size -> side in pixels."""
    for size in (preprocessing.get("crop_size"), preprocessing.get("size")):
        if isinstance(size, int):
            return size
        for key in ("height", "shortest_edge"):
            if isinstance(size, dict) and isinstance(size.get(key), int):
                return size[key]
    side = getattr(config, "image_size", None) or getattr(getattr(config, "vision_config", None), "image_size", None)
    if not isinstance(side, int):
        raise MatcherError("the backbone does not say its input size; set descriptor.size")
    return side


def make(
    network: nn.Module, reader: Reader, name: str, *, config: dict[str, Any], size: int, mean: Sequence[float], std: Sequence[float]
) -> Backbone:
    """The backbone after a trial with an empty picture; MatcherError if it cannot work at that size."""
    try:
        backbone = Backbone(network, reader, name=name, config=config, size=size, mean=mean, std=std)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise MatcherError(f"backbone {name} does not work at size {size}: {first_line(error)}") from error
    return backbone.eval().requires_grad_(False)


def unavailable(name: str, error: Exception) -> MatcherError:
    """One sentence for weights or a config that could not be had."""
    what = (
        "could not be loaded from the local cache or the hub: name a local folder (config.json, model.safetensors), or set weights: false"
    )
    return MatcherError(f"backbone {name} {what} ({type(error).__name__}: {first_line(error)})")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""How features are read from a network of timm or of transformers: pooled as it pools, or token by token.

Readers hold no network, so a deep copy of a model (a running average of its weights, say) reads its own.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from matcher.errors import MatcherError


class Reader(Protocol):
    """What a backbone asks of its network; pictures come in normalised, (B, 3, S, S)."""

    def pooled(self, network: nn.Module, batch: Tensor) -> Tensor:
        """(B, dim), pooled as the network pools."""

    def tokens(self, network: nn.Module, batch: Tensor) -> Tensor:
        """(B, T, C): class token and registers first, if there are any, then the places row by row."""

    def prefix(self, network: nn.Module, tokens: int, side: int) -> int:
        """How many of so many tokens are no places, for pictures with ``side`` pixels."""

    def has_class(self, network: nn.Module) -> bool:
        """Is the first token a class token?"""


class TimmReader:
    """Networks of timm, their classifier taken off."""

    def pooled(self, network: Any, batch: Tensor) -> Tensor:
        return network(batch)

    def tokens(self, network: Any, batch: Tensor) -> Tensor:
        return as_tokens(network.forward_features(batch), channels_last=getattr(network, "output_fmt", "NCHW") == "NHWC")

    def prefix(self, network: Any, tokens: int, side: int) -> int:
        return int(getattr(network, "num_prefix_tokens", 0))

    def has_class(self, network: Any) -> bool:
        return getattr(network, "cls_token", None) is not None


@dataclass(frozen=True)
class TransformersReader:
    """Models of transformers. ``pooler``: its pooler is trained; otherwise the class token is the pooled feature."""

    pooler: bool

    def pooled(self, network: Any, batch: Tensor) -> Tensor:
        """Image features of a text-image model, else the pooled output, else the class token."""
        output = call(getattr(network, "get_image_features", network), batch)
        if isinstance(output, Tensor):
            return output
        summary = getattr(output, "pooler_output", None)
        return summary.flatten(1) if summary is not None and self.pooler else output.last_hidden_state[:, 0]

    def tokens(self, network: Any, batch: Tensor) -> Tensor:
        return as_tokens(call(getattr(network, "vision_model", network), batch).last_hidden_state, channels_last=False)

    def prefix(self, network: Any, tokens: int, side: int) -> int:
        patch = getattr(vision_config(network), "patch_size", None)
        return max(tokens - (side // patch) ** 2, 0) if isinstance(patch, int) and self.has_class(network) else 0

    def has_class(self, network: Any) -> bool:
        embeddings = getattr(getattr(network, "vision_model", network), "embeddings", None)
        return any(getattr(embeddings, name, None) is not None for name in ("cls_token", "class_embedding"))


def call(network: Any, batch: Tensor) -> Any:
    """A model, or a method of it, on normalised pictures of any size."""
    accepted = inspect.signature(network.forward if isinstance(network, nn.Module) else network).parameters
    resizes = "interpolate_pos_encoding" in accepted or ("kwargs" in accepted and not isinstance(network, nn.Module))
    return network(pixel_values=batch, **({"interpolate_pos_encoding": True} if resizes else {}))


def vision_config(network: Any) -> Any:
    return getattr(network.config, "vision_config", None) or network.config


def as_tokens(features: Any, *, channels_last: bool) -> Tensor:
    """Maps (B, C, H, W) or (B, H, W, C), or tokens (B, T, C) -> (B, T, C). MatcherError for anything else."""
    if isinstance(features, Tensor) and features.ndim == 4:
        return features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
    if isinstance(features, Tensor) and features.ndim == 3:
        return features
    raise MatcherError("this backbone gives neither a feature map nor tokens; take pooling backbone")

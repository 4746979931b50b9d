"""The first blocks of an image network: pictures -> a grid of tokens, which a pair model compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from matcher.errors import MatcherError, UsageError
from matcher.models.backbones import Backbone, first_line, load_backbone, make, rebuild_backbone
from matcher.models.cards import find_checkpoint
from matcher.settings import DescriptorSettings


class Tower(nn.Module):
    """Pictures (B, 3, size, size), float RGB in 0..1 -> tokens (B, grid * grid, channels), row by row.

    Args:
        backbone: any network of timm that shows its intermediate features; it is cut where the tower ends
        depth: blocks of a ViT, or stages of a convolutional network, that the tower has

    Attributes:
        rest: the later blocks of a ViT, until a pair model takes them; empty for other networks

    UsageError if the network shows no such features, or has no such depth; MatcherError if it cannot be cut, or gives no square grid.
    """

    def __init__(self, backbone: Backbone, *, depth: int) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        network: Any = backbone.network
        if not hasattr(network, "forward_intermediates") or not hasattr(network, "prune_intermediate_layers"):
            raise UsageError(f"{backbone.name} does not show its intermediate features: take another network of timm for a tower")
        is_vit = isinstance(network, VisionTransformer)
        count = len(network.blocks) if is_vit else len(network.feature_info)
        if not 1 <= depth <= count:
            raise UsageError(f"a tower of {backbone.name} has 1 to {count} {'blocks' if is_vit else 'stages'}, not {depth}")
        self.rest = list(network.blocks[depth:]) if is_vit else []
        self.backbone, self.depth, self.place = backbone, depth, depth - 1
        try:
            network.prune_intermediate_layers([self.place], prune_norm=True, prune_head=True)
            with torch.inference_mode():
                _, self.channels, self.grid, across = self.eval().maps(torch.zeros(1, 3, backbone.size, backbone.size)).shape
        except (AssertionError, ValueError, TypeError, RuntimeError) as error:
            raise MatcherError(f"{backbone.name} cannot be cut: {first_line(error)}") from error
        if across != self.grid:
            raise MatcherError(f"{backbone.name} gives no square grid")

    @property
    def size(self) -> int:
        """Side in pixels of the square pictures that it takes."""
        return self.backbone.size

    def maps(self, pictures: Tensor) -> Tensor:
        """Pictures as above -> (B, channels, grid, grid)."""
        network: Any = self.backbone.network
        options = {"stop_early": True, "intermediates_only": True, "output_fmt": "NCHW"}
        found = network.forward_intermediates(self.backbone.normalise(pictures), indices=[self.place], **options)[0]
        return found.flip(2, 3) if self.backbone.turned else found

    def forward(self, pictures: Tensor) -> Tensor:
        return self.maps(pictures).flatten(2).transpose(1, 2)


def load_tower(name: str, *, depth: int, size: int | None, weights: bool, seed: int) -> Tower:
    """As ``load_trunk`` -> its first blocks, which are all that the descriptor must have kept."""
    trunk, lost = read_trunk(name, size=size, weights=weights, seed=seed)
    tower = Tower(trunk, depth=depth)
    used = {key.partition(".")[0] for key in tower.backbone.network.state_dict()}
    refuse_lost(name, [key for key in lost if key.partition(".")[0] in used])
    return tower


def load_trunk(name: str, *, size: int | None, weights: bool, seed: int) -> Backbone:
    """What a descriptor's ``backbone`` may be -> the whole network in it: of a descriptor's checkpoint its trunk, at any size.

    ``weights`` and ``seed`` are for other names than checkpoints. MatcherError if the descriptor did not keep all of its trunk.
    """
    trunk, lost = read_trunk(name, size=size, weights=weights, seed=seed)
    refuse_lost(name, lost)
    return trunk


def read_trunk(name: str, *, size: int | None, weights: bool, seed: int) -> tuple[Backbone, list[str]]:
    """As ``load_trunk`` -> the network, and the names of those of its tensors that a descriptor's checkpoint does not hold."""
    if find_checkpoint(name) is None:
        return load_backbone(DescriptorSettings(backbone=name, size=size, weights=weights, seed=seed)), []
    from matcher.models.descriptor import Descriptor

    trained = Descriptor.from_settings(DescriptorSettings(backbone=name)).backbone
    made_by: dict[str, Any] = {"name": trained.name, "config": trained.config, **trained.preprocessing}
    with torch.random.fork_rng(devices=[]):
        trunk = rebuild_backbone(**made_by)
    network: Any = trunk.network
    differing = network.load_state_dict(trained.network.state_dict(), strict=False)
    if size not in (None, trained.size):
        if hasattr(network, "set_input_size"):
            network.set_input_size(img_size=(size, size))
        trunk = make(network, trunk.reader, **made_by | {"size": size})
    return trunk, [*differing.missing_keys, *differing.unexpected_keys]


def refuse_lost(name: str, lost: Sequence[str]) -> None:
    """MatcherError if a descriptor's checkpoint lacks tensors that are needed."""
    if lost:
        raise MatcherError(f"descriptor {name} did not keep {lost[0]} of its backbone ({len(lost)} such): build on the backbone itself")

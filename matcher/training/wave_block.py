"""WaveBlock: in training, all rows of a feature map but one band are made larger (arXiv 2006.06525)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from matcher.errors import UsageError


class WaveBlock(nn.Module):
    """Maps (B, C, H, W) -> the same in eval mode; in training all rows times ``height``, except a random band of ``share`` of them.

    One band for the whole batch, from torch's own random numbers; nothing makes up for it in eval mode.

    Args:
        share: of the rows that are left as they are
        height: what the others are multiplied by
    """

    def __init__(self, share: float = 0.3, height: float = 1.5) -> None:
        super().__init__()
        self.share, self.height = share, height

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            return maps
        rows = maps.shape[-2]
        band = round(self.share * rows)
        first = torch.randint(0, rows - band + 1, (), device=maps.device)
        place = torch.arange(rows, device=maps.device)[:, None]  # (H, 1)
        kept = (place >= first) & (place < first + band)
        return torch.where(kept, maps, maps * self.height)


def put_waves(network: nn.Module, names: Sequence[str]) -> None:
    """A network and names of its stages -> a WaveBlock after each, as long as the stage trains. UsageError if there is none of a name.

    They are hooks, so weights keep their names and a saved network knows nothing of them.
    """
    known = dict(network.named_modules())
    for name in names:
        if not name or name not in known:
            raise UsageError(f"objective.waves: the backbone has no stage {name!r}; it has {', '.join(dict(network.named_children()))}")
        known[name].register_forward_hook(Wave())


class Wave:
    """A hook that sends what a stage gives through a WaveBlock while the stage trains."""

    def __init__(self) -> None:
        self.block = WaveBlock()

    def __call__(self, stage: nn.Module, _: Any, maps: Tensor) -> Tensor:
        return self.block.train(stage.training)(maps)

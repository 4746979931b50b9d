"""A global descriptor: pictures of one size -> unit vectors."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from matcher.models.backbones import Backbone, load_backbone
from matcher.settings import DescriptorSettings


class Descriptor(nn.Module):
    """Backbone features, scaled to the unit sphere: (B, 3, size, size) float RGB in 0..1 -> (B, dim)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.eval()

    @classmethod
    def from_settings(cls, settings: DescriptorSettings) -> Self:
        """Settings -> descriptor in eval mode, on the CPU; errors as in ``load_backbone``."""
        return cls(load_backbone(settings))

    @property
    def size(self) -> int:
        """Side in pixels of the square pictures that it takes."""
        return self.backbone.size

    @property
    def dim(self) -> int:
        """Numbers in a descriptor."""
        return self.backbone.dim

    @torch.inference_mode()
    def describe(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pictures (B, size, size, 3) uint8 RGB -> unit vectors (B, dim) float32, computed where the model lies."""
        if not len(pixels):
            return np.empty((0, self.dim), dtype=np.float32)
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.backbone.mean.device)
        return self(batch.permute(0, 3, 1, 2).float() / 255).float().cpu().numpy()

    def forward(self, batch: Tensor) -> Tensor:
        z = self.backbone(batch)
        return F.normalize(z, dim=-1)

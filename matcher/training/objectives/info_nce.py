"""InfoNCE over two views of each photo with the KoLeo entropy term (SSCD, arXiv 2202.10261), and descriptors of earlier steps."""

from __future__ import annotations

import torch
from torch import Tensor

from matcher.models.descriptor import Descriptor
from matcher.training.devices import gather, own_part
from matcher.training.losses import info_nce, koleo, overlap_of
from matcher.training.memory import Memory
from matcher.training.mixing import mix_views
from matcher.training.objectives.objective import Measured, Objective, measured, stack
from matcher.training.photo_pairs import PairBatch
from matcher.training.settings import LossSettings


class InfoNCE(Objective):
    """InfoNCE + entropy * KoLeo, positives weighted by what mixed views share (``matcher.training.losses``).

    The NTXentLoss of pytorch-metric-learning is not used: it knows no soft positives, and keeps other positives in the denominator.

    Args:
        settings: temperature, weight of the entropy, mixing, memory
    """

    several_devices = True

    def __init__(self, settings: LossSettings = LossSettings()) -> None:
        super().__init__()
        self.settings = settings
        self.memory: Memory | None = None

    def prepare(self, model: Descriptor, *, photos: int, compiled: bool) -> None:
        self.memory = Memory(self.settings.memory, model.dim) if self.settings.memory else None

    def measure(self, model: Descriptor, batch: PairBatch) -> Measured:
        count = len(batch.source)
        edited, shares = self.mix(batch)
        own = own_part(count)
        rows = model(stack([edited[own], batch.reference[own]]))
        z = torch.cat([gather(half) for half in rows.chunk(2)])  # (2B, D), edited views first, of all devices
        contrast, entropy = self.compare(z, torch.cat([shares, torch.eye(count, device=z.device)]), batch.source)
        return measured(contrast + self.settings.entropy * entropy, z, count, contrast=contrast, entropy=entropy)

    def mix(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """A batch -> the edited views, some of them mixed, and how much of each photo they show (B, B)."""
        if not self.settings.mixed:
            return batch.edited, torch.eye(len(batch.source), device=batch.edited.device)
        return mix_views(batch.edited, share=self.settings.mixed, generator=torch.Generator().manual_seed(batch.seed))

    def compare(self, z: Tensor, shares: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows (2B, D), edited views first, the shares that they show (2B, B), photos (B,) -> InfoNCE and KoLeo, in float32."""
        settings = self.settings
        with torch.autocast(z.device.type, enabled=False):
            overlap = overlap_of(shares)
            anchors = None if settings.both_ways else torch.arange(len(z), device=z.device) < len(source)
            kept = {} if self.memory is None else {"memory": self.memory.rows.clone(), "related": self.memory.related(shares, source)}
            contrast = info_nce(z, overlap, temperature=settings.temperature, anchors=anchors, **kept)
            entropy = koleo(z, overlap)
        if self.memory is not None:
            self.memory.add(z[len(source) :].detach(), source)
        return contrast, entropy

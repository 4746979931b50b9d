"""Where new classes begin: at what the model already makes of their photos (S-square's "drip training", arXiv 2112.03415)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from matcher.models.descriptor import Descriptor, evaluating
from matcher.training.photo_pairs import PhotoPairs
from matcher.training.sampling import CLASSES, Draw, step_seed

EDITED_VIEWS = 4  # beside the clean one


@torch.no_grad()
def start_classes(model: Descriptor, data: PhotoPairs, rows: range, *, hardness: float) -> Tensor:
    """A model, the data and rows of its bank -> unit rows (len(rows), D): mean of the descriptors of one clean and four edited
    views, normalised. Drawn by the data's seed and the row alone; the model's statistics stay as they are.
    """
    chunks = torch.arange(rows.start, rows.stop).split(data.batch_size)
    with evaluating(model):
        return torch.cat([normalize(sum_views(model, data, chunk, hardness), dim=1) for chunk in chunks])


def sum_views(model: Descriptor, data: PhotoPairs, rows: Tensor, hardness: float) -> Tensor:
    """Rows of the bank (B,) -> sums (B, D) of the descriptors of their views."""
    total = torch.zeros(len(rows), model.dim, device=data.bank.pixels.device)
    for view in range(EDITED_VIEWS):
        seed = step_seed(data.seed, CLASSES, EDITED_VIEWS * int(rows[0]) + view)
        pasted = torch.randperm(len(data.bank), generator=torch.Generator().manual_seed(seed))
        others = pasted[~torch.isin(pasted, rows)][: max(1, data.others)]
        batch = data.make_pairs(data.bank, Draw(rows.to(total.device), others.to(total.device), seed), hardness=hardness)
        total += model(batch.edited)
        if view == 0:
            total += model(batch.reference)
    return total

"""A plan -> pixels, what is seen of the source, and boxes: each layer is sampled once, at the level of detail that it is shown at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from matcher.data.augmentations import homography
from matcher.data.augmentations.drawn import Drawn
from matcher.data.augmentations.finding import Finds
from matcher.data.augmentations.jobs import Job, jobs_of
from matcher.data.augmentations.plan import INNER, OUTER, Layer, Plan


@dataclass(frozen=True, eq=False)
class Textures:
    """Where the pixels of layers come from: the sources (B, 3, P, P) float32, other pictures (N, 3, P, P) uint8, what is drawn."""

    source: Tensor
    others: Tensor
    drawn: Drawn

    def of(self, layer: Layer, rows: Tensor) -> Tensor:
        """The pictures of these rows, (R, 3 or 4, h, w) float32 in 0..1."""
        if layer.kind == "source":
            return self.source[rows]
        known = self.others if layer.kind == "other" else self.drawn.textures[layer.kind]
        return known[layer.index[rows]].float().div_(255)

    def sizes(self, side: int) -> dict[str, int]:
        """Texels of a picture of each kind; paper has as many as the output."""
        known = {"source": self.source, "other": self.others} | self.drawn.textures
        return {"paper": side * side} | {kind: value.shape[2] * value.shape[3] for kind, value in known.items()}


class Canvas:
    """The output while layers are laid on it, line by line: ``pixels`` (B, S, 3, S), ``visible`` (B, S, S), and the ``finds``."""

    def __init__(self, plan: Plan, textures: Textures, side: int) -> None:
        wall = plan.numbers["wall"]
        self.plan, self.textures, self.side = plan, textures, side
        self.pixels = wall[:, None, :, None].repeat(1, side, 1, side)
        self.visible = torch.zeros((len(wall), side, side), dtype=torch.bool, device=wall.device)
        self.outer = torch.ones_like(self.visible)
        self.cut_off(self.outer, plan.outer, (plan.sheet @ plan.outer - torch.eye(3, device=wall.device)).abs().amax((1, 2)) > 1e-5)
        self.inner = self.outer.clone()
        self.cut_off(self.inner, plan.inner, plan.nested)
        self.finds = Finds(self.inner)

    def cut_off(self, mask: Tensor, canvas: Tensor, rows: Tensor) -> None:
        """In the rows (B,) bool, clear what lies outside of a canvas (B, 3, 3)."""
        if len(at := rows.nonzero()[:, 0]):
            places = homography.raster(homography.inverse(self.plan.sheet[at] @ canvas[at]), self.side)
            mask[at] &= homography.inside(*places, canvas.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(at), -1))

    def do(self, job: Job) -> None:
        """Lay one layer on some rows and lines."""
        layer, band = job.layer, job.band
        x, y = homography.raster(job.back, self.side, band.lines, affine=job.affine)  # -1..1 on the layer
        mask = homography.inside(x, y, 2 * layer.window[band.rows] - 1) & band.of(self.inner if layer.depth == INNER else self.outer)
        paint, alpha = self.colours(job, x, y)
        weight = mask * layer.opacity[band.rows, None, None]
        alpha = alpha * weight
        below = band.of(self.pixels) * (1 - alpha)[:, :, None]
        band.put(self.pixels, torch.addcmul(below, paint, weight[:, :, None]))
        if layer.kind == "source":
            band.put(self.visible, alpha >= 0.5)
        else:
            self.note(job, alpha)

    def colours(self, job: Job, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | float]:
        """Colours times alpha (R, L, 3, S), and alpha (R, L, S) or 1, of a layer at x, y."""
        tint = job.layer.colour[job.band.rows, None, :, None]
        if job.layer.kind == "paper":
            return tint, 1.0
        grid = torch.stack([x, y], dim=-1)
        texture = halved_by(self.textures.of(job.layer, job.band.rows), job.halvings)
        sampled = F.grid_sample(texture, grid if job.affine else grid.nan_to_num_(-3.0), padding_mode="border", align_corners=False)
        sampled = sampled.transpose(1, 2)
        return (sampled, 1.0) if sampled.shape[2] == 3 else (sampled[:, :, :3] * tint, sampled[:, :, 3])

    def note(self, job: Job, alpha: Tensor) -> None:
        """Keep the books of a layer that is not the source: what is visible, what lies on top, where its box is."""
        layer, band, opaque = job.layer, job.band, alpha >= 0.5
        if job.above_source:
            band.put(self.visible, band.of(self.visible) & ~opaque)
            hides_boxes = layer.kind in ("paper", "other") and layer.label < 0
            self.finds.cover(band, opaque, hides_boxes=hides_boxes, hides_canvas=layer.depth == OUTER)
        if layer.label >= 0:
            self.finds.find(job.number, layer.label, band, alpha >= 0.2)


def halved_by(textures: Tensor, times: int) -> Tensor:
    """Textures (R, C, h, w) -> (R, C, h / 2^times, w / 2^times), averaged."""
    if not times:
        return textures
    height, width = (size >> times for size in textures.shape[2:])
    if (height << times, width << times) == tuple(textures.shape[2:]):
        return F.avg_pool2d(textures, 1 << times)
    return F.adaptive_avg_pool2d(textures, (max(1, height), max(1, width)))


def render(plan: Plan, textures: Textures, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A plan -> pixels (B, 3, S, S), visible (B, S, S), boxes (B, M, 4) and classes (B, M) of an output of ``side`` pixels."""
    canvas = Canvas(plan, textures, side)
    for job in jobs_of(plan, textures.sizes(side), side):
        canvas.do(job)
    return canvas.pixels.transpose(1, 2).contiguous(), canvas.visible, *canvas.finds.boxes(plan.nested)

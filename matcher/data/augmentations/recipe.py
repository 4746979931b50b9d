"""Recipes: which edits, how often, how strong. ``Recipe.load("benchmark")(pictures, ...)`` edits a batch on its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
import yaml
from torch import Tensor

from matcher.data.augmentations.augmented import Augmented
from matcher.data.augmentations.damage import damaged
from matcher.data.augmentations.drawn import drawn_on
from matcher.data.augmentations.planning import EDITS, draw_good_plan
from matcher.data.augmentations.rendering import Textures, render
from matcher.data.augmentations.tone import recolour
from matcher.errors import MatcherError, UsageError
from matcher.faults import suggest
from matcher.shipped import shipped, shipped_names
from matcher.storage.yaml_files import parse_yaml

Range = tuple[float, float]  # at hardness 0 and at hardness 1


@dataclass(frozen=True)
class Recipe:
    """How a batch is edited.

    Args:
        edits: by the name of an edit, the chance that it happens to a row: at hardness 0 and at hardness 1
        untouched: share of the rows that are left alone, at any hardness
        resaved: share of the rows that are only saved once more as JPEG, at any hardness
        strength: edits are drawn from mild to this share of their full strength: at hardness 0 and at hardness 1
    """

    edits: Mapping[str, Range]
    untouched: float = 0.05
    resaved: float = 0.03
    strength: Range = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name, chances in self.edits.items():
            if name not in EDITS:
                raise UsageError(f"there is no edit {name!r}; there are: {', '.join(EDITS)}")
            check_range(name, chances)
        check_range("strength", self.strength)
        check_range("untouched + resaved", (self.untouched, self.untouched + self.resaved))
        for hardness in (0, 1):
            scenes = sum(self.edits.get(name, (0.0, 0.0))[hardness] for name in ("onto", "collage", "screenshot"))
            if scenes > 1:
                raise UsageError(f"onto, collage and screenshot exclude each other; their chances add up to {scenes:g}, more than 1")

    @classmethod
    def load(cls, recipe: str | PathLike[str]) -> Self:
        """A YAML file, or the bare name of one in experiments/augmentations -> the recipe. MatcherError if it is wrong."""
        path = Path(recipe)
        if not path.suffix:
            known = {Path(name).stem: name for name in shipped_names("experiments") if name.startswith("augmentations/")}
            if path.name not in known:
                meant = suggest(path.name, known)
                raise UsageError(f"there is no recipe {str(recipe)!r}; give a YAML file or one of: {', '.join(known)}{meant}")
            path = shipped("experiments", known[path.name])
        try:
            return cls.read(parse_yaml(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise MatcherError(f"cannot read {path}: {error.strerror or error}") from error
        except (yaml.YAMLError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise MatcherError(f"{path} is no recipe: {error}") from error
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """What stands in the YAML: a chance is a number, or two numbers for hardness 0 and 1."""
        edits = {name: as_range(chance) for name, chance in values.pop("edits").items()}
        strength = as_range(values.pop("strength", 1.0))
        return cls(edits=edits, strength=strength, **values)

    def chances(self, hardness: float) -> dict[str, float]:
        """Every known edit's chance at this hardness; 0 for those that the recipe does not name."""
        return {name: at(self.edits.get(name, (0.0, 0.0)), hardness) for name in EDITS}

    def __call__(
        self,
        pictures: Tensor,
        aspect: Tensor,
        *,
        generator: torch.Generator,
        side: int,
        hardness: float,
        others: Tensor,
        other_aspect: Tensor | None = None,
        shared: int = 1,
    ) -> Augmented:
        """Pictures -> the same, edited, each in its own way, or ``shared`` rows in a row in the same way.

        Args:
            pictures: (B, 3, P, P) uint8, squashed to squares
            aspect: (B,) width / height before the squash
            generator: all randomness; a CPU generator plans faster even when the pictures are on a GPU
            side: pixels of the output, both ways
            hardness: 0 to 1, how often and how strongly
            others: (N, 3, P, P) uint8, what is pasted and pasted onto
            other_aspect: (N,) likewise; None = all square
            shared: B is a multiple of it; what is drawn at random for single pixels (noise) still differs
        """
        if not 0 <= hardness <= 1:
            raise UsageError(f"hardness is 0 to 1, not {hardness}")
        if not len(others):
            raise UsageError("a recipe needs other pictures to paste; give at least one")
        if len(aspect) % shared:
            raise UsageError(f"{len(aspect)} pictures cannot be shared out to groups of {shared}")
        planner, device = generator.device, pictures.device
        shapes = torch.ones(len(others), device=planner) if other_aspect is None else other_aspect.to(planner)
        kept, reach = (self.untouched, self.resaved), at(self.strength, hardness)
        plan = draw_good_plan(self.chances(hardness), kept, aspect[::shared].to(planner, torch.float32), generator, reach, shapes)
        plan = (plan.take(torch.arange(len(aspect), device=planner) // shared) if shared > 1 else plan).to(device)
        if planner.type != device.type:
            seed = torch.randint(2**62, (), generator=generator, device=planner)
            generator = torch.Generator(device).manual_seed(int(seed))
        source = recolour(pictures.float().div_(255), plan.numbers["tone first"], plan)
        pixels, visible, boxes, classes = render(plan, Textures(source, others, drawn_on(device)), side)
        pixels = recolour(pixels, ~plan.numbers["tone first"], plan)
        pixels = damaged(pixels, plan.fired, plan.numbers, generator)
        frame = plan.placed(plan.source)
        return Augmented(pixels, frame / frame[:, 2:, 2:], visible[:, None], boxes, classes)


def at(values: Range, hardness: float) -> float:
    """Between the value at hardness 0 and that at hardness 1."""
    return values[0] + (values[1] - values[0]) * hardness


def as_range(value: Any) -> Range:
    """A number, or a list of two -> two numbers. ValueError otherwise."""
    low, high = value if isinstance(value, list) else (value, value)
    return float(low), float(high)


def check_range(name: str, values: Range) -> None:
    """UsageError if these are not two shares."""
    if not all(0 <= value <= 1 for value in values):
        raise UsageError(f"{name} must be 0 to 1, not {values[0]:g} and {values[1]:g}")

"""Edits that people make to pictures, each of which says where it moved the pixels and which of them it hid."""

from matcher.data.edits.applying import apply_edit, apply_recipe, edit_at_random, gather_at_random, is_recognisable
from matcher.data.edits.edited import Context, Edit, Edited, Severity, Step
from matcher.data.edits.recipe import FAMILIES, MIXTURES, Difficulty, Mixture, Recipe, draw_recipe, mixture
from matcher.data.edits.several import SEVERAL, gather

__all__ = [
    "FAMILIES",
    "MIXTURES",
    "SEVERAL",
    "Context",
    "Difficulty",
    "Edit",
    "Edited",
    "Mixture",
    "Recipe",
    "Severity",
    "Step",
    "apply_edit",
    "apply_recipe",
    "draw_recipe",
    "edit_at_random",
    "gather",
    "gather_at_random",
    "is_recognisable",
    "mixture",
]

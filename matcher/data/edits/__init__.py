"""Edits that people make to pictures, each of which says where it moved the pixels and which of them it hid."""

from matcher.data.edits.applying import apply_edit, apply_recipe, edit_at_random, is_recognisable
from matcher.data.edits.edited import Context, Edit, Edited, Severity, Step
from matcher.data.edits.recipe import FAMILIES, MIXTURES, Difficulty, Mixture, Recipe, draw_recipe, mixture

__all__ = [
    "FAMILIES",
    "MIXTURES",
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
    "is_recognisable",
    "mixture",
]

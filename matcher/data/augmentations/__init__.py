"""Edits of whole batches on their device, each of which says where it moved the pixels, what it hid and what it pasted."""

from matcher.data.augmentations.augmented import CLASS_NAMES, Augmented
from matcher.data.augmentations.recipe import Recipe

__all__ = ["CLASS_NAMES", "Augmented", "Recipe"]

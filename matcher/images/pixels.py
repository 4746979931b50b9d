"""A decoded Pillow picture of any mode -> 8-bit RGB, upright."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

_WHITE_IS_ZERO, _PHOTOMETRIC, _BITS = 0, 262, 258  # TIFF tags
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A loaded picture -> (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    What is transparent becomes white. 16-bit levels are scaled (65535 -> 255), not clipped; see ``deep_grey`` for wider ones.
    Colour profiles are not applied: a copy often loses its profile, and both must look alike.
    """
    rgb = flatten(image)
    method = _UPRIGHT.get(orientation(image))
    return np.array(rgb if method is None else rgb.transpose(method))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or where the EXIF block is broken."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block must not cost the picture, and its parser raises nearly anything
        return 1
    return value if isinstance(value, int) else 1


def flatten(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode -> mode RGB, on white where it is transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(deep_grey(image)).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    fit_transparent_colour(image)
    layer = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def fit_transparent_colour(image: Image.Image) -> None:
    """Bring a PNG's transparent colour to 8 bits: Pillow scales the pixels of 2, 4 and 16 bits, but not that colour."""
    depth = getattr(image, "png_depth", 8)
    colour = image.info.get("transparency")
    if image.mode == "RGB" and depth == 16 and isinstance(colour, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in colour)
    elif image.mode == "L" and depth in (2, 4) and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**depth - 1)


def deep_grey(image: Image.Image) -> NDArray[np.uint8]:
    """Modes I;16, I (32-bit) and F (float) -> (H, W) uint8.

    16-bit levels are scaled from 0..65535 (a TIFF of 12 bits from 0..4095), floats from 0..1; levels outside of these are
    stretched from their own minimum to their maximum.
    """
    levels: NDArray[Any] = np.asarray(image).astype(np.float64 if image.mode == "I" else np.float32)
    levels = np.nan_to_num(levels, nan=0.0, posinf=0.0, neginf=0.0) if image.mode == "F" else levels
    tags = getattr(image, "tag_v2", {})
    top = 1.0 if image.mode == "F" else 65535.0
    bottom = 0.0
    if image.mode.startswith("I;16") and tags.get(_BITS) == (12,):
        top = 4095.0
    elif levels.min() < bottom or levels.max() > top:
        bottom, top = float(levels.min()), float(levels.max())
    grey = np.rint((levels - bottom) * (255.0 / (top - bottom) if top > bottom else 0.0)).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        grey[levels == clear] = 255
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey

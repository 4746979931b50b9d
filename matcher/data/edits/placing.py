"""Exact moves of pixels, mask and frame together, which the edits are made of.

Edits push a picture forward onto a new canvas, with fill and mask; ``views.render`` pulls a view out of an image.
They share the convention of ``geometry``: continuous pixel coordinates, 0 = the outer corner of the first pixel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from matcher import geometry
from matcher.data.edits.edited import Edited, Mask, Pixels

HALF_PIXEL = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])


def resize(pixels: Pixels, size_hw: tuple[int, int]) -> Pixels:
    """Pixels (H, W) or (H, W, C) -> the same at ``size_hw``, averaged when shrinking, cubic when growing."""
    height, width = size_hw
    if pixels.shape[:2] == size_hw:
        return pixels
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))


def soften(pixels: Pixels, sigma: float) -> Pixels:
    """Pixels (H, W, 3) blurred by ``sigma`` pixels; a strong blur is made at a smaller size, where it is cheap."""
    height, width = pixels.shape[:2]
    factor = max(1, min(int(sigma / 2), min(height, width) // 8))
    small = resize(pixels, (height // factor, width // factor))
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / factor), (width, height), interpolation=cv2.INTER_LINEAR))


def resize_mask(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """A mask at another size: True where at least half of the pixel was."""
    if mask.shape == size_hw:
        return mask
    shrinks = size_hw[0] <= mask.shape[0] and size_hw[1] <= mask.shape[1]
    scaled = cv2.resize(mask.astype(np.uint8) * 255, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(scaled) >= 128


def limit(pixels: Pixels, side: int) -> Pixels:
    """Pixels -> the same, shrunk if the longer side exceeds ``side``."""
    return resize(pixels, fitting(pixels.shape[:2], (side, side))) if max(pixels.shape[:2]) > side else pixels


def fitting(size_hw: tuple[int, ...], room_hw: tuple[int, int]) -> tuple[int, int]:
    """The largest size with the shape of ``size_hw`` that goes into ``room_hw``; at least 1 x 1."""
    factor = min(room_hw[0] / size_hw[0], room_hw[1] / size_hw[1])
    return max(1, min(room_hw[0], round(size_hw[0] * factor))), max(1, min(room_hw[1], round(size_hw[1] * factor)))


def resized(picture: Edited, size_hw: tuple[int, int], /, **parameters: Any) -> Edited:
    """The whole picture on another number of pixels: on unit squares nothing moves."""
    return picture.moved(resize(picture.pixels, size_hw), lambda mask: resize_mask(mask, size_hw), geometry.identity(), **parameters)


def cut(picture: Edited, box: tuple[int, int, int, int], /, **parameters: Any) -> Edited:
    """The pixels inside ``box`` = left, top, right, bottom (whole pixels, inside the picture)."""
    left, top, right, bottom = box
    height, width = picture.size_hw
    move = geometry.invert(geometry.from_box(left / width, top / height, right / width, bottom / height))
    pixels = np.ascontiguousarray(picture.pixels[top:bottom, left:right])
    return picture.moved(pixels, lambda mask: mask[top:bottom, left:right].copy(), move, **parameters)


def placed(picture: Edited, canvas: Pixels, left: int, top: int, opacity: float = 1.0, /, **parameters: Any) -> Edited:
    """The picture laid on a canvas (H, W, 3) with its corner at ``left``, ``top``; what hangs over the edge is lost."""
    (height, width), (canvas_h, canvas_w) = picture.size_hw, canvas.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, canvas_w), min(top + height, canvas_h)
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"a picture of {width} x {height} at ({left}, {top}) misses the canvas of {canvas_w} x {canvas_h}")
    inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    pixels = canvas.copy()
    pixels[y0:y1, x0:x1] = blend(canvas[y0:y1, x0:x1], picture.pixels[inner], opacity)

    def carry(mask: Mask) -> Mask:
        visible = np.zeros((canvas_h, canvas_w), dtype=bool)
        visible[y0:y1, x0:x1] = mask[inner] & (opacity >= 0.5)
        return visible

    shift = np.array([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])
    return picture.moved(pixels, carry, geometry.from_pixels(shift, picture.size_hw, (canvas_h, canvas_w)), **parameters)


def covered(picture: Edited, paint: Pixels, alpha: np.ndarray, left: int = 0, top: int = 0, /, **parameters: Any) -> Edited:
    """Paint (h, w, 3) with ``alpha`` (h, w) in 0..1 laid over the picture at ``left``, ``top``; hidden where alpha > 0.5."""
    height, width = picture.size_hw
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + paint.shape[1], width), min(top + paint.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return picture.noted(**parameters)
    inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    pixels, hidden = picture.pixels.copy(), np.zeros((height, width), dtype=bool)
    share = np.asarray(alpha, dtype=np.float32)[inner]
    pixels[y0:y1, x0:x1] = blend(pixels[y0:y1, x0:x1], paint[inner], share[..., None])
    hidden[y0:y1, x0:x1] = share > 0.5
    return picture.painted(pixels, hidden, **parameters)


def blend(below: Pixels, above: Pixels, opacity: float | np.ndarray) -> Pixels:
    """``above`` over ``below``, both (H, W, 3), with ``opacity`` 0 to 1 (a number, or (H, W, 1))."""
    if isinstance(opacity, float) and opacity >= 1.0:
        return above
    mixed = below.astype(np.float32)
    mixed += (above.astype(np.float32) - mixed) * np.asarray(opacity, dtype=np.float32)
    return np.rint(mixed).astype(np.uint8)


def warped(picture: Edited, move: geometry.Array, size_hw: tuple[int, int], fill: tuple[int, int, int], /, **parameters: Any) -> Edited:
    """The picture pushed by ``move`` (its unit square to the new one's) onto a canvas of ``size_hw`` filled with one colour.

    A picture that shrinks is averaged down first, so that it does not flicker.
    """
    source = picture
    area_px = geometry.area(geometry.corners(move)) * size_hw[0] * size_hw[1]
    scale = float(np.sqrt(area_px / (picture.size_hw[0] * picture.size_hw[1])))
    if 0 < scale < 0.7:
        source = resized(picture, (max(1, round(picture.size_hw[0] * scale)), max(1, round(picture.size_hw[1] * scale))))
    to_canvas = np.linalg.inv(HALF_PIXEL) @ geometry.to_pixels(move, source.size_hw, size_hw) @ HALF_PIXEL
    dsize = (size_hw[1], size_hw[0])
    pixels = cv2.warpPerspective(source.pixels, to_canvas, dsize, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)

    def carry(mask: Mask) -> Mask:
        shrunk = resize_mask(mask, source.size_hw).astype(np.uint8) * 255
        return np.asarray(cv2.warpPerspective(shrunk, to_canvas, dsize, flags=cv2.INTER_LINEAR)) >= 128

    return picture.moved(np.asarray(pixels), carry, move, **parameters)

"""Words and letters: texts drawn at random, and their ink as a mask. Fonts are those that Pillow and OpenCV carry."""

from __future__ import annotations

import string

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = (
    *("when", "you", "see", "the", "last", "one", "at", "home", "nobody", "told", "me", "about", "this", "again", "best", "day", "ever"),
    *("wait", "for", "it", "so", "true", "my", "face", "after", "monday", "coffee", "please", "do", "not", "share", "before", "reading"),
    *("why", "is", "everyone", "looking", "here", "we", "go", "sale", "only", "today", "new", "photo", "of", "cat", "love", "summer"),
    *("forever", "moment", "find", "us", "on", "web", "who", "did", "better", "look", "closely", "breaking", "news", "live", "city"),
    *("tag", "a", "friend", "no", "words", "needed", "just", "saying", "follow", "more", "original", "remember", "how", "started", "now"),
)
SIGNS = string.ascii_letters + string.digits + "     !?&"
CV_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


def phrase(rng: np.random.Generator, words: int) -> str:
    """About ``words`` words, lower case, capitalised or in capitals; one time in three signs drawn at random instead."""
    if rng.random() < 0.33:
        text = "".join(SIGNS[i] for i in rng.integers(0, len(SIGNS), 5 * words)).strip()
        return text or "x"
    text = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), words))
    return (text, text.capitalize(), text.upper())[int(rng.integers(3))]


def font(height: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font at a height in pixels; made anew each time, because FreeType fonts may not cross threads."""
    made = ImageFont.load_default(size=max(6.0, height))
    if not isinstance(made, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType, which the text edits need")
    return made


def ink(text: str, height: float, rng: np.random.Generator) -> np.ndarray:
    """A line of text in a random style, about ``height`` pixels from top to bottom -> ink (h, w) float32 in 0..1, trimmed."""
    style = int(rng.integers(len(CV_FONTS) + 2))
    drawn = pillow_ink(text, height, bold=style == len(CV_FONTS)) if style >= len(CV_FONTS) else opencv_ink(text, height, CV_FONTS[style])
    stretch, slant = float(rng.uniform(0.75, 1.35)), float(rng.choice([0.0, 0.0, 0.0, 0.25]))
    h, w = drawn.shape
    out_w = max(1, int(np.ceil(w * stretch + h * slant)))
    drawn = np.asarray(cv2.warpAffine(drawn, np.array([[stretch, -slant, h * slant], [0, 1, 0]]), (out_w, h)))
    return trimmed(drawn)


def pillow_ink(text: str, height: float, *, bold: bool = False) -> np.ndarray:
    """A line in Pillow's font: (h, w) float32 in 0..1."""
    face = font(height)
    weight = max(1, round(height / 20)) if bold else 0
    left, top, right, bottom = face.getbbox(text, stroke_width=weight)
    sheet = Image.new("L", (max(1, int(right - left) + 2), max(1, int(bottom - top) + 2)))
    ImageDraw.Draw(sheet).text((1 - left, 1 - top), text, fill=255, font=face, stroke_width=weight)
    return np.asarray(sheet, dtype=np.float32) / 255


def opencv_ink(text: str, height: float, face: int) -> np.ndarray:
    """A line in one of OpenCV's fonts: (h, w) float32 in 0..1."""
    scale, weight = max(6.0, height) / 30, max(1, round(height / 18))
    (width, ascent), descent = cv2.getTextSize(text, face, scale, weight)
    sheet = np.zeros((ascent + descent + 2 * weight + 4, width + 2 * weight + 8, 3), dtype=np.uint8)
    cv2.putText(sheet, text, (weight + 2, ascent + weight), face, scale, (255, 255, 255), weight, cv2.LINE_AA)
    return sheet[..., 0].astype(np.float32) / 255


def trimmed(drawn: np.ndarray) -> np.ndarray:
    """Ink without the empty margins; one empty pixel if there is no ink."""
    rows, columns = np.flatnonzero(drawn.max(axis=1) > 0.05), np.flatnonzero(drawn.max(axis=0) > 0.05)
    if not len(rows):
        return np.zeros((1, 1), dtype=np.float32)
    return np.ascontiguousarray(drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def outline(drawn: np.ndarray, width: int) -> np.ndarray:
    """Ink grown by ``width`` pixels all round, on a sheet that is larger by as much: (h + 2 width, w + 2 width)."""
    sheet = np.pad(drawn, width)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    return np.asarray(cv2.dilate(sheet, kernel))

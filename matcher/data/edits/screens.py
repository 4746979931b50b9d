"""Edits that show the picture on a made-up screen: web page, feed, chat, browser, viewer; and captions like a meme's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from matcher.data.edits.edited import Context, Edited, Pixels, Severity, colour, strength
from matcher.data.edits.lettering import ink, phrase
from matcher.data.edits.overlays import flat, shrunk
from matcher.data.edits.pasting import filled
from matcher.data.edits.placing import covered, cut, fitting, placed, resized
from matcher.data.edits.sheet import Palette, Sheet

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Screen:
    """A screen with an empty place for the picture."""

    name: str
    pixels: Pixels
    box: Box


def feed_page(sheet: Sheet, aspect: float, context: Context) -> Box:
    """A social network in a desktop browser (640 x 393): menu, stories, a post, advertisements."""
    panel, faint = sheet.palette.panel, sheet.palette.faint
    sheet.bar(0, 0, 640, 24, panel)
    sheet.disc(14, 12, 8, sheet.palette.accent)
    sheet.bar(34, 5, 210, 19, sheet.palette.page, 7)
    sheet.icons(560, 625, 12, 9, 4)
    sheet.bar(0, 25, 112, 393, panel)
    for row in range(int(sheet.rng.integers(5, 11))):
        sheet.disc(16, 44 + 24 * row, 4, faint)
        sheet.label(28, 44 + 24 * row, 9, sheet.name())
    sheet.bar(124, 32, 430, 92, panel, 4)
    for x in np.linspace(146, 410, 8):
        sheet.disc(float(x), 66, 13, sheet.palette.accent)
        sheet.picture(float(x) - 9, 57, float(x) + 9, 75, context.foreign(sheet.rng))
    sheet.bar(124, 100, 430, 393, panel, 4)
    sheet.author(134, 106, 26)
    end = sheet.prose(134, 138, 420, int(sheet.rng.integers(1, 8)), 10)
    sheet.bar(442, 32, 632, 210, panel, 4)
    sheet.label(452, 44, 10, "Sponsored")
    sheet.picture(452, 56, 622, 160, context.foreign(sheet.rng))
    sheet.prose(452, 168, 622, 2, 9, faint)
    return sheet.box(134, end + 6, 420, 384)


def feed_phone(sheet: Sheet, aspect: float, context: Context) -> Box:
    """A social network on a phone (360 x 640): a post with its picture over the full width."""
    sheet.status_bar()
    sheet.label(14, 36, 18, ("network", "Home", "for you", "photos")[int(sheet.rng.integers(4))])
    sheet.icons(290, 345, 36, 14, 2)
    top = 60.0
    if sheet.rng.random() < 0.5:
        for x in np.arange(30, 360, 56):
            sheet.disc(float(x), 84, 22, sheet.palette.accent)
            sheet.disc(float(x), 84, 19, sheet.palette.panel)
        top = 122.0
    top = sheet.author(12, top) + 8
    if sheet.rng.random() < 0.5:
        top = sheet.prose(12, top, 348, int(sheet.rng.integers(1, 4)), 13) + 8
    margin = float(sheet.rng.choice([0, 10, 22, 22]))
    bottom = min(560.0, top + (360 - 2 * margin) / float(np.clip(aspect, 1.0, 2.0)))
    sheet.icons(20, 110, bottom + 18, 15, 4)
    if bottom < 540:
        sheet.prose(12, bottom + 34, 348, 2, 12)
    sheet.bar(0, 600, 360, 640, sheet.palette.panel)
    sheet.icons(36, 324, 620, 16, 5)
    return sheet.box(margin, top, 360 - margin, bottom)


def chat_phone(sheet: Sheet, aspect: float, context: Context) -> Box:
    """A chat on a phone (360 x 640): bubbles, one of them with the picture."""
    rng, palette = sheet.rng, sheet.palette
    sheet.bar(0, 0, 360, 66, palette.accent)
    sheet.status_bar()
    sheet.author(30, 28, 30)
    top = 78.0
    place: Box | None = None
    own = int(rng.integers(0, 3))
    for row in range(6):
        mine = bool(rng.random() < 0.5)
        if row == own:
            w = float(rng.uniform(200, 270))
            h = min(w / float(np.clip(aspect, 0.6, 2.2)), 300.0)
            left = 350 - w if mine else 10.0
            sheet.bar(left, top, left + w, top + h + 16, palette.panel, 9)
            place = sheet.box(left + 4, top + 4, left + w - 4, top + h)
            top += h + 24
        elif top < 560:
            w, lines = float(rng.uniform(110, 250)), int(rng.integers(1, 4))
            left = 350 - w if mine else 10.0
            sheet.bar(left, top, left + w, top + 18 * lines + 12, palette.accent if mine else palette.panel, 9)
            top = sheet.prose(left + 9, top + 6, left + w - 9, lines, 13) + 16
    sheet.bar(0, 596, 360, 640, palette.panel)
    sheet.bar(14, 604, 300, 632, palette.page, 14)
    sheet.disc(334, 618, 15, palette.accent)
    assert place is not None
    return place


def article_page(sheet: Sheet, aspect: float, context: Context) -> Box:
    """An article in a browser window (640 x 440): tabs, address, headline, picture, text beside or below."""
    panel, rng = sheet.palette.panel, sheet.rng
    sheet.bar(0, 0, 640, 20, sheet.palette.faint)
    sheet.bar(6, 3, 150, 20, panel, 5)
    for x, paint in zip((600, 614, 628), ((90, 200, 80), (240, 190, 60), (240, 90, 80)), strict=True):
        sheet.disc(x, 10, 4, paint)
    sheet.bar(0, 20, 640, 42, panel)
    sheet.bar(60, 24, 560, 38, sheet.palette.page, 7)
    sheet.label(72, 31, 9, "https://www." + sheet.name().lower().replace(" ", "") + ".example/" + str(int(rng.integers(1000, 99999))))
    top = sheet.prose(40, 52, 600, 1, 22)
    top = sheet.prose(40, top, 600, int(rng.integers(1, 3)), 10, sheet.palette.faint) + 8
    right = float(rng.uniform(240, 400))
    sheet.prose(right + 18, top, 604, 16, 10)
    return sheet.box(40, top, right, 430)


def viewer(sheet: Sheet, aspect: float, context: Context) -> Box:
    """A picture viewer (640 x 400): the picture in the middle, small ones in a row below it."""
    sheet.bar(0, 0, 640, 22, sheet.palette.panel)
    sheet.label(12, 11, 10, f"IMG_{int(sheet.rng.integers(1000, 9999))}.jpg")
    sheet.icons(560, 625, 11, 9, 3)
    for column in range(9):
        sheet.picture(52 + 60 * column, 346, 104 + 60 * column, 392, context.foreign(sheet.rng))
    left, top, right = sheet.rng.uniform((70, 30, 400), (190, 90, 570)).tolist()
    return sheet.box(left, top, right, 336)


SCREENS: dict[str, tuple[Callable[[Sheet, float, Context], Box], tuple[int, int]]] = {
    "feed_page": (feed_page, (640, 393)),
    "feed_phone": (feed_phone, (360, 640)),
    "chat_phone": (chat_phone, (360, 640)),
    "article_page": (article_page, (640, 440)),
    "viewer": (viewer, (640, 400)),
}
PHONES = ("feed_phone", "chat_phone")
BY_SEVERITY = {
    1: ("feed_phone", "viewer", "article_page"),
    2: ("feed_phone", "chat_phone", "feed_page"),
    3: ("feed_page", "feed_page", "chat_phone"),
}


def draw_screen(name: str, picture: Edited, rng: np.random.Generator, context: Context, side: int) -> Screen:
    """One of the screens, its longer side ``side`` pixels, with a place that suits the picture's shape."""
    draw, (width, height) = SCREENS[name]
    sheet = Sheet(width, height, side / max(width, height), Palette.draw(rng), rng)
    box = draw(sheet, picture.size_hw[1] / picture.size_hw[0], context)
    return Screen(name, sheet.pixels(), box)


def shown(picture: Edited, screen: Screen, rng: np.random.Generator) -> Edited:
    """The picture in its place on the screen: whole with bars beside it (two in three), or cut to fill the place."""
    left, top, right, bottom = screen.box
    fits = bool(rng.random() < 0.67)
    canvas = screen.pixels.copy()
    if fits:
        canvas[top:bottom, left:right] = (0, 0, 0) if rng.random() < 0.6 else canvas[max(0, top - 1), left]
    room = bottom - top, right - left
    small = resized(picture, fitting(picture.size_hw, room)) if fits else filled(picture, room, False)
    left += (right - left - small.size_hw[1]) // 2
    top += (bottom - top - small.size_hw[0]) // 2
    return placed(small, canvas, left, top, screen=screen.name, fits=fits)


def screenshot(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """On a screen: a phone's feed or chat, an article, a viewer, a desktop feed; the stronger, the smaller."""
    name = BY_SEVERITY[severity][int(rng.integers(3))]
    return shown(picture, draw_screen(name, picture, rng, context, context.canvas_side), rng)


def phone(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """A phone's screen, zoomed in and cut around the picture: 4 % (mild) to 40 % (strong) of screen left around it."""
    screen = draw_screen(PHONES[int(rng.integers(2))], picture, rng, context, round(context.canvas_side * 1.5))
    reach = strength(rng, severity, 0.04, 0.4)
    left, top, right, bottom = screen.box
    spread = rng.uniform(-0.3, 1.0, 4) * reach
    box = (
        int(max(0, left - spread[0] * (right - left))),
        int(max(0, top - spread[1] * (bottom - top))),
        int(min(screen.pixels.shape[1], right + spread[2] * (right - left))),
        int(min(screen.pixels.shape[0], bottom + spread[3] * (bottom - top))),
    )
    return cut(shown(picture, screen, rng), box, around=reach)


def meme(picture: Edited, rng: np.random.Generator, severity: Severity, context: Context) -> Edited:
    """A caption on a bar above the picture, below it, or both: 10 % (mild) to 40 % (strong) of its height each."""
    height, width = picture.size_hw
    bar = max(6, round(height * strength(rng, severity, 0.1, 0.4)))
    where = ("above", "below", "both")[int(rng.choice(3, p=(0.65, 0.15, 0.2)))]
    top, bottom = (bar if where != "below" else 0), (bar if where != "above" else 0)
    canvas = np.empty((height + top + bottom, width, 3), dtype=np.uint8)
    canvas[:] = bar_colour = colour(rng)
    legible = (0, 0, 0) if sum(bar_colour) > 380 else (255, 255, 255)
    paint = legible if rng.random() < 0.6 else colour(rng)
    framed = placed(picture, canvas, 0, top, where=where, bar=bar, bar_colour=bar_colour, text_colour=paint)
    for start, present in ((0, top), (top + height, bottom)):
        if present:
            framed = caption(framed, rng, start, bar, paint)
    return framed


def caption(picture: Edited, rng: np.random.Generator, top: int, height: int, paint: tuple[int, int, int]) -> Edited:
    """One or two lines of text in the bar that starts at row ``top``."""
    lines = int(rng.integers(1, 3))
    for line in range(lines):
        drawn = ink(phrase(rng, int(rng.integers(2, 6))), 0.62 * height / lines, rng)
        room_w, room_h = 0.94 * picture.size_hw[1], 0.8 * height / lines
        drawn = shrunk(drawn, min(1.0, room_w / drawn.shape[1], room_h / drawn.shape[0]))
        left = round((picture.size_hw[1] - drawn.shape[1]) / 2)
        middle = top + height * (line + 0.5) / lines
        picture = covered(picture, flat(drawn, paint), drawn, left, round(middle - drawn.shape[0] / 2))
    return picture

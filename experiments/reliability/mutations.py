"""Real bytes -> damaged or hostile bytes: flips, cuts, splices, numbers at their limits; JSON with one value changed."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

WORDS = (
    b"\0",
    b"\xff\xff",
    b'"',
    b",",
    b"\n",
    b"{",
    b"[",
    b"]",
    b": ",
    b"&a ",
    b"*a",
    b"!!python/object:os.system ",
    b"../",
    b"file:///etc/",
    b"1e999",
)
VALUES: tuple[Any, ...] = (
    None, True, "", "x" * 5000, "\ud800", "../../x", -1, 0, 2**31, 2**63, 10**30, 1e308, 1e-320, float("nan"), float("inf"),
    [], {}, [[]], {"a": 1}, ["a", 1],
)  # fmt: skip


def mutate(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Bytes, and other files of their kind -> the same with one to four changes."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(changed) + 1)
        size = draw.choice((1, 2, 4, 8, 64))
        match draw.randrange(8):
            case 0 | 1 if changed:
                changed[at % len(changed)] ^= 1 << draw.randrange(8)
            case 2:
                changed[at : at + size] = draw.randbytes(size)
            case 3:
                number = draw.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 65_535))
                changed[at : at + 4] = struct.pack(draw.choice("<>") + "I", number)
            case 4:
                del changed[at : at + draw.choice((1, 16, 1024, len(changed)))]
            case 5:
                changed[at:at] = draw.choice(WORDS) * draw.choice((1, 1, 2, 300))
            case 6:
                source = draw.choice(others)
                start = draw.randrange(len(source) + 1)
                changed[at : at + size] = source[start : start + 4 * size]
            case 7:
                changed[at:at] = changed[at : at + size] * draw.choice((1, 3, 50))
    return bytes(changed)


def mutate_json(value: Any, draw: random.Random) -> Any:
    """A JSON value -> the same with one inner value replaced, left out or wrapped."""
    places = list(walk(value))
    holder, key = draw.choice(places)
    match draw.randrange(6):
        case 0:
            del holder[key]
        case 1:
            holder[key] = [holder[key]] * draw.choice((1, 2))
        case 2 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * draw.choice((-1, 0.5, 2, 1000, 10**6))
        case _:
            holder[key] = draw.choice(VALUES)
    return value


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """A JSON value -> every (holder, key) within."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from walk(value[key])


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def mend_png(data: bytes) -> bytes:
    """A PNG file whose chunks may be wrong -> the same with right checksums, so that what is inside is looked at."""
    at, mended = 8, bytearray(data)
    while at + 12 <= len(mended):
        end = at + 8 + int.from_bytes(mended[at : at + 4], "big")
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(mended[at + 4 : end])) if end + 4 <= len(mended) else b""
        at = end + 4
    return bytes(mended)

"""Forty files that a folder of pictures should not hold, or that look as if it should not."""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def make_hostile_folder(folder: Path, seed: int = 0) -> dict[str, str]:
    """Write forty files into ``folder`` -> their names (relative, "/" between parts) with the expected error code, or "good".

    All good ones show the same scene, strangely wrapped, so that they can be looked for as copies of it. Every name without its
    picture suffix is unique and starts with "hostile": that is the id which ``read_images`` gives, except for the name that is no UTF-8.
    Needs a Unix file system (links, pipes, sockets, names of any bytes).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    expected: dict[str, str] = {}
    for kinds in (no_pictures(rng), cut_short(scene), damaged(scene), oversized(scene), strange_but_good(scene)):
        for name, (code, data) in kinds.items():
            Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name)))).write_bytes(data)
            expected[name] = code
    expected.update(no_files(folder))
    with open(folder / "hostile huge.jpg", "wb") as file:  # sparse: takes no room on disk
        file.truncate(300 * 1024 * 1024)
    expected["hostile huge.jpg"] = "too_large"
    return expected


def draw_scene(rng: np.random.Generator) -> Image.Image:
    """A picture, 320 x 240, with corners and texture at several sizes."""
    picture = np.full((240, 320, 3), 128, np.float64)
    for cells in (4, 16, 60):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture += np.asarray(noise.resize((320, 240), Image.Resampling.BICUBIC), dtype=np.float64) / 3 - 42
    for _ in range(25):
        y, x = rng.integers(0, 220), rng.integers(0, 290)
        picture[y : y + rng.integers(8, 40), x : x + rng.integers(8, 50)] = rng.integers(0, 256, 3)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *, before: bytes = b"", rows: bytes = b"") -> bytes:
    """A grey 8-bit PNG file, its header free to lie about the rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(tags: dict[int, tuple[int, int]], *, pixels: bytes = b"") -> bytes:
    """A little-endian TIFF of one picture; tags are {number: (type, value)}, the pixels start at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def no_pictures(rng: np.random.Generator) -> dict[str, tuple[str, bytes]]:
    return {
        "hostile empty.jpg": ("empty", b""),
        "hostile text.jpg": ("unsupported", b"This picture has been removed by its owner.\n"),
        "hostile web page.jpg": ("unsupported", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        "hostile document.png": ("unsupported", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"),
        "hostile drawing.png": ("unsupported", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
        "hostile postscript.jpg": ("unsupported", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"),
        "hostile phone.heic": ("unsupported", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)),
        "hostile layers.psd": ("unsupported", b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 10, 10, 8, 3)),
        "hostile noise.png": ("unsupported", b"\0" + rng.bytes(5000)),
        "hostile zeros.tif": ("unsupported", bytes(65536)),
    }


def cut_short(scene: Image.Image) -> dict[str, tuple[str, bytes]]:
    whole = {
        "hostile half.jpg": encode(scene, "JPEG", quality=90),
        "hostile half progressive.jpg": encode(scene, "JPEG", progressive=True),
        "hostile half.cut.png": encode(scene, "PNG"),
        "hostile half.cut2.webp": encode(scene, "WEBP"),
        "hostile half.cut3.gif": encode(scene.convert("P"), "GIF"),
        "hostile half.cut4.bmp": encode(scene, "BMP"),
    }
    files = {name: ("truncated", data[: len(data) // 2]) for name, data in whole.items()}
    files["hostile header only.jpg"] = ("truncated", whole["hostile half.jpg"][:200])
    files["hostile no directory.tif"] = ("truncated", b"II*\0" + struct.pack("<I", 900_000) + bytes(100))
    return files


def damaged(scene: Image.Image) -> dict[str, tuple[str, bytes]]:
    good, lossless = encode(scene, "PNG"), encode(scene, "WEBP", lossless=True)
    middle = len(good) // 2
    bad_rows = good[:middle] + b"\xff" * 64 + good[middle + 64 :]
    bad_webp = lossless[:60] + bytes(200) + lossless[260:]
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8_000_000), 9))
    strange = {256: (3, 4), 257: (3, 4), 258: (3, 7), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1), 278: (3, 4), 279: (4, 16)}
    return {
        "hostile damaged rows.png": ("corrupt", bad_rows),
        "hostile wrong checksum.png": ("corrupt", good[:20] + b"\x01" + good[21:]),
        "hostile damaged.webp": ("corrupt", bad_webp),
        "hostile text bomb.png": ("corrupt", png(1, 1, before=bomb, rows=b"\0\0")),
        "hostile no size.png": ("corrupt", png(0, 0)),
        "hostile seven bits.tif": ("unsupported", tiff(strange, pixels=bytes(16))),
    }


def oversized(scene: Image.Image) -> dict[str, tuple[str, bytes]]:
    photo = encode(scene, "JPEG")
    at = photo.index(b"\xff\xc0") + 5
    return {
        "hostile bomb.png": ("too_many_pixels", png(60_000, 60_000, rows=bytes(1_000_000))),
        "hostile thread.png": ("too_many_pixels", png(1, 100_000_000, rows=bytes(1_000_000))),
        "hostile claim.jpg": ("too_many_pixels", photo[:at] + struct.pack(">HH", 65_500, 65_500) + photo[at + 4 :]),
    }


def strange_but_good(scene: Image.Image) -> dict[str, tuple[str, bytes]]:
    grey = np.asarray(scene.convert("L")).astype(np.uint16) * 257
    photo = encode(scene, "JPEG", quality=92)
    bad_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xee" * 40
    return {
        "hostile printed.jpg": ("good", encode(scene.convert("CMYK"), "JPEG", quality=92)),
        "hostile sixteen bits.png": ("good", encode(Image.fromarray(grey), "PNG")),
        "hostile liar.jpg": ("good", encode(scene, "PNG")),
        "hostile without suffix": ("good", photo),
        "hostile bad exif.jpg": ("good", encode(scene, "JPEG", quality=92, exif=bad_exif, icc_profile=b"no profile")),
        "hostile \u00fcml\u00e4ut \u732b\nline.jpg": ("good", photo + b"trailing rubbish"),
        os.fsdecode(b"hostile \xff\xfe bytes.jpg"): ("good", photo),
    }


def no_files(folder: Path) -> dict[str, str]:
    (folder / "hostile folder.jpg").mkdir()
    (folder / "hostile broken link.jpg").symlink_to("nowhere.jpg")
    (folder / "hostile endless link.jpg").symlink_to("hostile endless link.jpg")
    os.mkfifo(folder / "hostile pipe.jpg")
    os.mknod(folder / "hostile socket.jpg", stat.S_IFSOCK | 0o600)
    codes = {"folder": "not_a_file", "broken link": "missing", "endless link": "missing", "pipe": "not_a_file", "socket": "not_a_file"}
    return {f"hostile {name}.jpg": code for name, code in codes.items()}

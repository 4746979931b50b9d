"""The only decoder in the package: file -> bytes -> upright 8-bit RGB, or an ImageError with a code. Safe in threads."""

from __future__ import annotations

import hashlib
import os
import re
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from matcher.errors import ImageError
from matcher.images.files import examine, from_text, open_error, picture_kind, printable
from matcher.images.pixels import to_rgb
from matcher.settings import ImageSettings

# Formats are told by their first bytes and opened by class, never through Image.open: that would let in formats that run
# other programs, and it warns of large pictures through the process-wide warnings machinery.
_FORMATS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}
_OTHERS = (
    (rb"\s*<(?i:!doctype html|html|head|body)", "a web page"),
    (rb"\s*<(?i:\?xml|svg|!doctype svg)", "an XML or SVG text"),
    (rb"%PDF", "a PDF document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript document"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive"),
    (rb"[\t\n\r -~]{16,}", "a text"),
)
_LONGEST_SIDE = 65_535
_SCAN, _MOST_SCANS = b"\xff\xda", 100  # of a progressive JPEG: ordinary ones have about ten; each costs a pass over all pixels
_UNSUPPORTED = re.compile(
    r"unsupported|not (yet )?supported|not (installed|available)|unknown pixel mode|cannot handle|illegal conversion", re.IGNORECASE
)
_TRUNCATED = re.compile(r"truncat|reached EOF|end of file|not enough (image )?data|too short", re.IGNORECASE)


def read_bytes(path: str | os.PathLike[str], *, settings: ImageSettings) -> bytes:
    """Path (or file:// URI, see files.to_text) -> the bytes of the file.

    Raises:
        ImageError: outside (of settings.root), missing, not_a_file, unreadable, empty, or too_large (told before reading)
    """
    place = from_text(os.fspath(path))
    if settings.root is not None:
        place = inside(place, settings.root)
    size = examine(place).st_size
    limit = settings.max_bytes
    if size <= limit:
        try:
            with open(place, "rb") as file:
                data = file.read(limit + 1)
        except (OSError, ValueError) as error:
            raise open_error(place, error) from error
        size = len(data)
    if size > limit:
        excess = f"{size:,} bytes are more than the limit of {limit:,}; raise strategy.images.max_bytes to use it"
        raise ImageError("too_large", f"{printable(place)}: {excess}")
    return data


def inside(place: str, root: str) -> str:
    """A path, and the folder that it must lie in -> where it really lies, its links and ".." followed; ImageError if that is elsewhere."""
    home = os.path.realpath(os.path.expanduser(root))
    try:
        real = os.path.realpath(place)
    except (OSError, ValueError) as error:
        raise open_error(place, error) from error
    if os.path.commonpath([real, home]) != home:
        raise ImageError("outside", f"{printable(place)}: this lies outside of strategy.images.root, {printable(root)}")
    return real


def decode(data: bytes, *, settings: ImageSettings, at_least: int | None = None, name: str = "") -> NDArray[np.uint8]:
    """The bytes of a picture file -> (H, W, 3) uint8 RGB, upright by EXIF, the first frame of several, on white where transparent.

    Args:
        settings: limits that the header is held against before any pixel is decoded
        at_least: a JPEG may come at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this many pixels;
            where its size is no multiple of that, the last row or column is part padding (an error of less than one pixel)
        name: what to call the picture in an error

    Raises:
        ImageError: empty, unsupported, too_many_pixels, truncated or corrupt; nothing else whatever the bytes are
    """
    try:
        with open_picture(data) as image:
            check_size(image.size, settings=settings)
            if at_least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
                image.draft(image.mode, (max(1, at_least), max(1, at_least)))
            image.load()
            return to_rgb(image)
    except Exception as error:  # Pillow's parsers raise nearly anything on hostile bytes: struct.error, SyntaxError, zlib.error, ...
        code, sentence = explain(error, data)
        raise ImageError(code, f"{printable(name)}: {sentence}" if name else sentence) from error


def load(
    path: str | os.PathLike[str], *, settings: ImageSettings, at_least: int | None = None, key: str | None = None
) -> NDArray[np.uint8]:
    """Path -> (H, W, 3) uint8 RGB: ``read_bytes`` and ``decode`` in one; ImageError as there, and if its bytes have another ``key``."""
    data = read_bytes(path, settings=settings)
    if key is not None:
        check_unchanged(path, content_key(data), key)
    return decode(data, settings=settings, at_least=at_least, name=os.fspath(path))


def check_unchanged(path: str | os.PathLike[str], now: str, key: str) -> None:
    """A file, the key of its bytes now and when it was described -> ImageError if they differ: what is known is of another picture."""
    if now != key:
        told = "has changed since it was described: describe the pictures again (in a collection: remove it, then add it)"
        raise ImageError("changed", f"{printable(os.fspath(path))} {told}")


def content_key(data: bytes) -> str:
    """The bytes of a file -> their SHA-256 as 64 hexadecimal digits: equal keys, equal files."""
    return hashlib.sha256(data).hexdigest()


def open_picture(data: bytes) -> ImageFile.ImageFile:
    """Bytes -> a Pillow picture whose header is read and whose pixels are not."""
    if not data:
        raise ImageError("empty", "the file is empty")
    kind = picture_kind(data[:64])
    if kind is None:
        found = next((words for pattern, words in _OTHERS if re.match(pattern, data[:64], re.DOTALL)), None)
        raise ImageError("unsupported", f"this is {found}, not a picture" if found else "this is no picture in a known format")
    if kind not in _FORMATS:
        raise ImageError("unsupported", f"{kind} pictures cannot be decoded; convert it to JPEG or PNG")
    if kind == "JPEG" and (scans := data.count(_SCAN)) > _MOST_SCANS:
        raise ImageError("unsupported", f"a JPEG file of {scans:,} scans, which takes longer to decode than a picture may; save it again")
    image = _FORMATS[kind](BytesIO(data))
    image.decodermaxblock = max(image.decodermaxblock, len(data))  # all bytes at once instead of in blocks of 64 KB
    if kind == "PNG":
        image.png_depth = data[24]  # type: ignore[attr-defined]  # for pixels.fit_transparent_colour
    return image


def check_size(size: tuple[int, int], *, settings: ImageSettings) -> None:
    """Width and height from the header -> nothing, or an ImageError if that is more than the settings allow."""
    width, height = size
    if width * height > settings.max_pixels:
        limit = f"more than the limit of {settings.max_pixels:,} pixels; raise strategy.images.max_pixels to use it"
        raise ImageError("too_many_pixels", f"{width:,} x {height:,} pixels are {limit}")
    if max(size) > _LONGEST_SIDE:
        raise ImageError("too_many_pixels", f"{width:,} x {height:,} pixels: no side may be longer than {_LONGEST_SIDE:,}")


def explain(error: Exception, data: bytes) -> tuple[str, str]:
    """What was raised on these bytes -> (code, sentence)."""
    if isinstance(error, ImageError):
        return error.code, str(error)
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_many_pixels", "its header claims far more pixels than a picture has"
    if isinstance(error, MemoryError):
        return "too_many_pixels", "there is not enough memory to decode it; lower strategy.images.max_pixels to refuse such pictures early"
    reason = printable(str(error).partition("\n")[0])[:120] or type(error).__name__
    kind = picture_kind(data[:64])
    if _UNSUPPORTED.search(reason):
        return "unsupported", f"a {kind} file of a sort that cannot be decoded ({reason})"
    if _TRUNCATED.search(reason) or ends_early(data):
        return "truncated", f"the {kind} file ends too early ({reason})"
    return "corrupt", f"the {kind} file is damaged ({reason})"


def ends_early(data: bytes) -> bool:
    """Do these bytes, which failed to decode, lack the end that their format must have?"""
    kind, tail = picture_kind(data[:64]), data[-4096:]
    match kind:
        case "JPEG" | "JPEG2000" if data[:1] == b"\xff":  # both end with the same marker, unless JPEG 2000 comes in boxes
            return b"\xff\xd9" not in tail
        case "PNG":
            return b"IEND" not in tail
        case "GIF":
            return b";" not in tail[-64:]
        case "WEBP":
            return 8 + int.from_bytes(data[4:8], "little") > len(data)
        case "BMP":
            return int.from_bytes(data[2:6], "little") > len(data)
        case "TIFF":
            return int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") >= len(data)
        case "AVIF" | "JPEG2000":
            return last_box_end(data) > len(data)
        case _:
            return False


def last_box_end(data: bytes) -> int:
    """Where the boxes of an AVIF or JPEG 2000 file say that the file ends; 0 if it is not made of boxes."""
    end = 0
    while end + 8 <= len(data):
        length = int.from_bytes(data[end : end + 4], "big")
        length = int.from_bytes(data[end + 8 : end + 16], "big") if length == 1 else length
        if length < 8:
            break
        end += length
    return end

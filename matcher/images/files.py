"""What can be told of a file without decoding it: is it usable, is it a picture, how is its name written down."""

from __future__ import annotations

import errno
import os
import re
import stat
from urllib.parse import quote, unquote_to_bytes

from matcher.errors import ImageError

_PHOTOS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".heic", ".heif", ".avif"}
_RARER = {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".jxl", ".psd", ".ico", ".tga"}
PICTURE_SUFFIXES = frozenset(_PHOTOS | _RARER)
_SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBPVP8[ LX]", "WEBP"),
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", "BMP"),
    (rb"II[*+]\x00|MM\x00[*+]", "TIFF"),
    (rb"P[1-6]\s+[#\d]", "PPM"),
    (rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"8BPS\x00[\x01\x02]", "PSD"),
)
_OWN_URI = re.compile(r"file://(localhost)?(?=/)", re.IGNORECASE)  # of RFC 8089
_SNIFFED = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _SIGNATURES)


def picture_kind(start: bytes) -> str | None:
    """The first bytes of a file (64 are enough) -> the format's name, whatever the file is called; None = no picture.

    HEIC, JPEG XL and PSD are known by name but cannot be decoded here.
    """
    for pattern, kind in _SNIFFED:
        if pattern.match(start):
            return kind
    if start[4:8] == b"ftyp":
        brands = start[8 : max(16, int.from_bytes(start[:4], "big"))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if re.search(rb"hei[cxms]|hev[cx]|mif1|msf1", brands):
            return "HEIC"
    return None


def has_picture_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def is_picture(path: str) -> bool:
    """Is this an ordinary, readable file that starts like a picture? Pipes and devices are never opened."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return picture_kind(file.read(64)) is not None
    except (OSError, ValueError):
        return False


def examine(path: str) -> os.stat_result:
    """Path -> its stat, if it is an ordinary file with something in it that may be read; ImageError if not. Opens nothing."""
    name = printable(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise open_error(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("not_a_file", f"{name}: this is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not_a_file", f"{name}: this is a pipe, a socket or a device, not a file")
    if not os.access(path, os.R_OK):
        raise ImageError("unreadable", f"{name}: you have no permission to read this file")
    if status.st_size == 0:
        raise ImageError("empty", f"{name}: the file is empty")
    return status


def open_error(path: str, error: BaseException) -> ImageError:
    """What the system said when a file was looked at or opened -> the same as an ImageError."""
    name = printable(path)
    if isinstance(error, PermissionError):
        return ImageError("unreadable", f"{name}: you have no permission to read this file")
    if isinstance(error, IsADirectoryError):
        return ImageError("not_a_file", f"{name}: this is a folder, not a file")
    if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return ImageError("unreadable", f"{name}: the file cannot be read ({error.strerror})")
    is_link = not isinstance(error, ValueError) and os.path.islink(path)
    return ImageError("missing", f"{name}: a link that leads nowhere" if is_link else f"{name}: there is no such file")


def printable(text: str) -> str:
    """Any text -> one line that can be printed and stored; line breaks and bytes that are no UTF-8 are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def storable(text: str) -> str:
    """Any text -> text that a record can hold: bytes of a file name that are no UTF-8, and NUL, turn into escapes such as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def to_text(path: str) -> str:
    """A path -> text that UTF-8 can hold and ``from_text`` leads back: the path itself, or a file:// URI if its name is no UTF-8."""
    try:
        path.encode()
        return storable(path)
    except UnicodeEncodeError:
        try:
            return "file://" + quote(os.fsencode(path))
        except UnicodeEncodeError:  # a lone surrogate, which no file system can hold: there is no such file
            return storable(path)


def is_uri(text: str) -> bool:
    """Is this meant as a file:// URI, of this machine or of another one?"""
    return text[:7].lower() == "file://"


def from_text(text: str) -> str:
    """What ``to_text`` wrote (or any path, or any file:// URI of this machine) -> a path that can be opened."""
    if (uri := _OWN_URI.match(text)) is None:
        return text
    try:
        path = os.fsdecode(unquote_to_bytes(os.fsencode(text[uri.end() :])))
    except UnicodeEncodeError:  # as above
        return text
    return text if "\0" in path else path  # no file has such a name

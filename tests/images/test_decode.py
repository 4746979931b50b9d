"""Hostile bytes, limits, sizes and names; what pixels come out is in test_pixels.py."""

import hashlib
import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from matcher.errors import ImageError
from matcher.images.decode import content_key, decode, load, read_bytes
from matcher.settings import ImageSettings

LIMITS = ImageSettings()


def code_of(data, **options):
    with pytest.raises(ImageError) as caught:
        decode(data, settings=options.pop("limits", LIMITS), **options)
    assert str(caught.value).isprintable()
    return caught.value.code


def png(*chunks):
    parts = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def header(width, height):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_smallest_and_thinnest_pictures_decode(encode, shape, kind):
    picture = np.full((*shape, 3), 90, np.uint8)
    decoded = decode(encode(picture, kind), settings=LIMITS)
    assert decoded.shape == (*shape, 3) and decoded.dtype == np.uint8 and decoded.flags.c_contiguous and decoded.flags.writeable
    assert np.abs(decoded.astype(int) - 90).max() <= 3


def test_pixels_are_limited_by_the_header_before_decoding(encode):
    data = encode(np.zeros((50, 60, 3), np.uint8), "PNG")
    assert decode(data, settings=ImageSettings(max_pixels=3000)).shape == (50, 60, 3)
    assert code_of(data, limits=ImageSettings(max_pixels=2999)) == "too_many_pixels"


@pytest.mark.parametrize("size", [(30_000, 30_000), (1, 100_000_000), (100_000_000, 1), (2**31 - 1, 2**31 - 1)])
def test_absurd_sizes_are_refused_without_a_warning(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert code_of(png(header(*size), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))) == "too_many_pixels"


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_a_picture_without_size_is_corrupt(size):
    assert code_of(png(header(*size), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))) == "corrupt"


def test_a_limit_above_pillows_own_bomb_limit_is_honoured(monkeypatch, encode):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("PNG", "JPEG", "GIF", "BMP"):
            assert decode(encode(np.zeros((50, 60), np.uint8), kind), settings=LIMITS).shape == (50, 60, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on cut TIFF tags
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_cut_files_are_truncated(encode, scene, compression):
    if compression is None:
        files = {kind: encode(scene, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")}
        files["progressive"] = encode(scene, "JPEG", progressive=True)
    else:
        files = {compression: encode(scene, "TIFF", compression=compression)}
    for name, data in files.items():
        for share in (0.1, 0.5, 0.9):
            assert code_of(data[: int(share * len(data))]) == "truncated", (name, share)
    if "JPEG" in files:
        assert code_of(files["JPEG"][:-2], at_least=20) == "truncated"


def test_a_png_that_only_lacks_its_last_chunk_still_decodes(encode, scene):
    assert np.array_equal(decode(encode(scene, "PNG")[:-12], settings=LIMITS), scene)


def test_other_content_is_unsupported_and_named():
    for data, word in [(b"%PDF-1.4 abc", "PDF"), (b"<html><body>no", "web page"), (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC")]:
        with pytest.raises(ImageError, match=word) as caught:
            decode(data, settings=LIMITS, name="a\nb.jpg")
        assert caught.value.code == "unsupported" and str(caught.value).startswith(r"a\nb.jpg: ")
    assert code_of(b"") == "empty"
    assert code_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "unsupported"


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), ValueError(""), SystemError("x"), struct.error("y")])
def test_nothing_but_image_errors_comes_out(monkeypatch, encode, error):
    def fail(image):
        raise error

    monkeypatch.setattr("matcher.images.decode.to_rgb", fail)
    assert code_of(encode(np.zeros((5, 5), np.uint8), "PNG")) in ("corrupt", "too_many_pixels")


@pytest.mark.parametrize("keyword", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_compressed_bomb_beside_the_pixels_is_not_unpacked(keyword):
    body = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[keyword] + zlib.compress(bytes(5_000_000), 9)
    data = png(header(1, 1), (keyword, body), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b""))
    try:
        assert decode(data, settings=LIMITS).shape == (1, 1, 3)
    except ImageError as error:
        assert error.code == "corrupt"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_broken_colour_profile_and_broken_exif_do_not_cost_the_picture(encode, scene):
    for kind in ("JPEG", "PNG", "WEBP"):
        broken = {"icc_profile": b"\xff" * 100, "exif": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(30)}
        data = encode(scene, kind, **broken)
        assert np.abs(decode(data, settings=LIMITS).astype(int) - scene).mean() < 8


@pytest.mark.parametrize(("shape", "at_least", "expected"), [
    ((120, 160), None, (120, 160)),
    ((120, 160), 61, (120, 160)),
    ((120, 160), 60, (60, 80)),
    ((121, 163), 60, (61, 82)),
    ((120, 160), 16, (30, 40)),
    ((120, 160), 15, (15, 20)),
    ((120, 160), 1, (15, 20)),
    ((160, 120), 30, (40, 30)),
])  # fmt: skip
def test_a_jpeg_may_come_smaller_but_never_below_at_least(encode, scene, shape, at_least, expected):
    picture = Image.fromarray(scene).resize(shape[::-1])
    decoded = decode(encode(picture, "JPEG", quality=95), settings=LIMITS, at_least=at_least)
    assert decoded.shape[:2] == expected
    step = -(-shape[0] // expected[0])
    height, width = shape[0] // step, shape[1] // step  # whole blocks; a last row or column of odd pixels is padded
    blocks = np.asarray(picture)[: height * step, : width * step].reshape(height, step, width, step, 3).mean(axis=(1, 3))
    assert np.abs(decoded[:height, :width] - blocks).mean() < 4


def test_at_least_leaves_other_formats_alone(encode, scene):
    assert decode(encode(scene, "PNG"), settings=LIMITS, at_least=10).shape == scene.shape


def test_at_least_looks_at_the_shorter_side_of_a_turned_jpeg(encode, scene):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encode(scene, "JPEG", exif=exif), settings=LIMITS, at_least=60).shape == (80, 60, 3)


def test_read_bytes_says_what_is_wrong_with_a_file(tmp_path):
    def code(path, limits=LIMITS):
        with pytest.raises(ImageError) as caught:
            read_bytes(path, settings=limits)
        assert os.path.basename(path) in str(caught.value)
        return caught.value.code

    (tmp_path / "empty.jpg").touch()
    (tmp_path / "big.jpg").write_bytes(bytes(101))
    (tmp_path / "link.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert code(tmp_path / "gone.jpg") == "missing"
    assert code(tmp_path / "link.jpg") == "missing"
    assert code(tmp_path / "big.jpg" / "inside.jpg") == "missing"
    assert code(tmp_path / ("x" * 300)) == "missing"
    assert code(tmp_path) == "not_a_file"
    assert code(tmp_path / "pipe.jpg") == "not_a_file"
    assert code(tmp_path / "empty.jpg") == "empty"
    assert code(tmp_path / "big.jpg", ImageSettings(max_bytes=100)) == "too_large"
    assert read_bytes(tmp_path / "big.jpg", settings=ImageSettings(max_bytes=101)) == bytes(101)


def test_a_file_without_permission_is_unreadable(tmp_path, monkeypatch):
    (tmp_path / "secret.jpg").write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, who may read everything
    with pytest.raises(ImageError, match="permission") as caught:
        read_bytes(tmp_path / "secret.jpg", settings=LIMITS)
    assert caught.value.code == "unreadable"


def test_a_null_in_a_path_is_missing():
    with pytest.raises(ImageError) as caught:
        read_bytes("a\0b.jpg", settings=LIMITS)
    assert caught.value.code == "missing" and "\0" not in str(caught.value)


def test_load_takes_paths_and_file_uris(tmp_path, encode, scene):
    (tmp_path / "a b%20.png").write_bytes(encode(scene, "PNG"))
    for path in (tmp_path / "a b%20.png", str(tmp_path / "a b%20.png"), (tmp_path / "a b%20.png").as_uri()):
        assert np.array_equal(load(path, settings=LIMITS), scene)


def test_content_key_is_sha256_of_the_bytes():
    assert content_key(b"abc") == hashlib.sha256(b"abc").hexdigest() and content_key(b"abd") != content_key(b"abc")


def test_many_threads_give_what_one_gives(encode, scene):
    files = [encode(scene, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF")] * 10 + [encode(scene, "JPEG")[:500]] * 5

    def outcome(data):
        try:
            return content_key(decode(data, settings=LIMITS).tobytes())
        except ImageError as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcome, files)) == [outcome(data) for data in files]


def small_file(kind, **options):
    rng = np.random.default_rng(3)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


FILES = [small_file(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")]
FILES += [small_file("JPEG", progressive=True), small_file("WEBP", lossless=True)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken TIFF tags
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_decodes_or_raises_an_image_error(data):
    bytes_ = bytearray(data.draw(st.sampled_from(FILES)))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(bytes_) - 1), st.integers(0, 255)), max_size=6)):
        bytes_[at] = value
    if data.draw(st.booleans()):
        del bytes_[data.draw(st.integers(0, len(bytes_))) :]
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(bytes_)))
        bytes_[at:at] = data.draw(st.binary(max_size=30))
    try:
        picture = decode(bytes(bytes_), settings=ImageSettings(max_pixels=1_000_000), at_least=data.draw(st.sampled_from([None, 8])))
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8 and picture.size
    except ImageError as error:
        assert error.code in ("empty", "unsupported", "too_many_pixels", "truncated", "corrupt") and str(error).isprintable()

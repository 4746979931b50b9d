"""Every kind of pixel that a file may hold comes out as upright 8-bit RGB."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from matcher.images.decode import decode
from matcher.settings import ImageSettings


def pixels(data):
    return decode(data, settings=ImageSettings())


def tiff(levels, *, bits, photometric=1, sample_format=1):
    """One grey row or more as an uncompressed little-endian TIFF; 12 bits are packed two samples in three bytes."""
    height, width = levels.shape
    if bits == 12:
        rows = ["".join(f"{level:012b}" for level in row) for row in levels.tolist()]
        data = b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    else:
        data = levels.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


DEEP = np.array([[0, 128, 257, 257 * 100], [30_000, 50_000, 65_000, 65_535]], np.uint16)
SCALED = np.rint(DEEP / 257).astype(np.uint8)


@pytest.mark.parametrize("options", [{"kind": "PNG"}, {"kind": "TIFF"}, {"kind": "TIFF", "compression": "tiff_lzw"}, {"kind": "PPM"}])
def test_16_bit_grey_is_scaled_not_clipped(encode, options):
    decoded = pixels(encode(Image.fromarray(DEEP), **options))
    assert np.array_equal(decoded, np.repeat(SCALED[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_in_a_narrow_range_is_not_stretched(encode, kind):
    levels = np.array([[257 * 40, 257 * 60]], np.uint16)
    assert pixels(encode(Image.fromarray(levels), kind))[0, :, 0].tolist() == [40, 60]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
def test_16_bit_colour_is_scaled_not_clipped(suffix):
    levels = np.zeros((4, 5, 3), np.uint16)
    levels[:] = (257 * 200, 257 * 100, 257 * 7)  # R, G, B
    decoded = pixels(cv2.imencode(suffix, levels[..., ::-1])[1].tobytes())
    assert (decoded == (200, 100, 7)).all()


def test_16_bit_colour_with_alpha_lies_on_white():
    levels = np.zeros((2, 3, 4), np.uint16)
    levels[:, 1] = (0, 0, 65_535, 65_535)  # B, G, R, alpha
    decoded = pixels(cv2.imencode(".png", levels)[1].tobytes())
    assert (decoded[:, 1] == (255, 0, 0)).all() and (decoded[:, 0] == 255).all()


def test_12_bit_grey_is_scaled_by_its_own_range():
    levels = np.array([[0, 1000, 2000, 4095]], np.uint16)
    assert np.abs(pixels(tiff(levels, bits=12))[0, :, 0].astype(int) - np.rint(levels[0] / 4095 * 255)).max() <= 1


def test_grey_where_white_is_zero_is_turned_round():
    assert np.array_equal(pixels(tiff(DEEP, bits=16, photometric=0))[..., 0], 255 - SCALED)
    assert np.array_equal(pixels(tiff(SCALED, bits=8, photometric=0))[..., 0], 255 - SCALED)


@pytest.mark.parametrize(("levels", "expected"), [
    (np.array([[0, 25_700, 65_535]], np.int32), [0, 100, 255]),
    (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
    (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
    (np.array([[0.0, 51.0, 255.0]], np.float32), [0, 51, 255]),
    (np.array([[np.nan, 0.2, np.inf]], np.float32), [0, 51, 0]),
    (np.array([[7.0, 7.0, 7.0]], np.float32), [0, 0, 0]),
])  # fmt: skip
def test_wide_integers_and_floats_are_scaled(encode, levels, expected):
    assert pixels(encode(Image.fromarray(levels), "TIFF"))[0, :, 0].tolist() == expected


def test_one_bit(encode):
    picture = Image.fromarray(np.array([[0, 255, 255], [255, 0, 0]], np.uint8)).convert("1")
    for kind in ("PNG", "TIFF", "GIF", "BMP", "PPM"):
        assert pixels(encode(picture, kind))[..., 1].tolist() == [[0, 255, 255], [255, 0, 0]], kind


def test_grey_has_three_equal_channels(encode):
    decoded = pixels(encode(np.full((8, 8), 77, np.uint8), "JPEG"))
    assert decoded.shape == (8, 8, 3) and (decoded == 77).all()


def test_palette_with_and_without_transparency(encode):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    red, green, blue, white = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
    assert pixels(encode(picture, "PNG"))[0].tolist() == [red, green, blue]
    assert pixels(encode(picture, "BMP"))[0].tolist() == [red, green, blue]
    assert pixels(encode(picture, "PNG", transparency=1))[0].tolist() == [red, white, blue]
    assert pixels(encode(picture, "GIF", transparency=1))[0].tolist() == [red, white, blue]
    half = pixels(encode(picture, "PNG", transparency=bytes([255, 128, 0])))[0]
    assert np.abs(half - np.array([red, [127, 255, 127], white])).max() <= 1


def test_alpha_lies_on_white(encode):
    picture = np.zeros((1, 3, 4), np.uint8)
    picture[0] = [(200, 100, 0, 255), (200, 100, 0, 0), (200, 100, 0, 128)]
    for kind, options in {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}}.items():
        decoded = pixels(encode(picture, kind, **options))[0].astype(int)
        assert np.abs(decoded - [(200, 100, 0), (255, 255, 255), (227, 177, 127)]).max() <= 1, kind


def test_grey_with_alpha_lies_on_white(encode):
    picture = Image.merge("LA", [Image.fromarray(np.full((1, 2), 40, np.uint8)), Image.fromarray(np.array([[255, 0]], np.uint8))])
    for kind in ("PNG", "TIFF"):
        assert pixels(encode(picture, kind))[0].tolist() == [[40, 40, 40], [255, 255, 255]], kind


def test_a_transparent_colour_of_a_png_lies_on_white(encode):
    grey = np.array([[10, 20]], np.uint8)
    assert pixels(encode(grey, "PNG", transparency=20))[0, :, 0].tolist() == [10, 255]
    colour = np.array([[(1, 2, 3), (9, 8, 7)]], np.uint8)
    assert pixels(encode(colour, "PNG", transparency=(9, 8, 7)))[0].tolist() == [[1, 2, 3], [255, 255, 255]]
    assert pixels(encode(Image.fromarray(DEEP), "PNG", transparency=30_000))[1, :2, 0].tolist() == [255, SCALED[1, 1]]


def test_a_transparent_colour_of_2_4_and_16_bits_is_found(encode):
    import zlib

    def png(depth, colour_type, row, transparent):
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, colour_type, 0, 0, 0)), (b"tRNS", transparent)]
        chunks += [(b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)

    assert pixels(png(4, 0, b"\x5a", b"\0\x05"))[0, :, 0].tolist() == [255, 0xAA]
    assert pixels(png(2, 0, b"\x60", b"\0\x01"))[0, :, 0].tolist() == [255, 170]
    deep = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x1111, 0x2222, 0x3333)
    assert pixels(png(16, 2, deep, deep[:6]))[0].tolist() == [[255] * 3, [0x11, 0x22, 0x33]]


def test_cmyk_jpeg_is_not_inverted(encode):
    colours = np.zeros((16, 48, 3), np.uint8)
    colours[:, :16], colours[:, 16:32], colours[:, 32:] = (220, 30, 30), (30, 200, 30), (240, 240, 240)
    decoded = pixels(encode(Image.fromarray(colours).convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(decoded[:, [4, 20, 44]] - colours[:, [4, 20, 44]]).max() <= 4
    assert np.abs(pixels(encode(Image.fromarray(colours).convert("CMYK"), "TIFF")).astype(int) - colours).max() <= 1


def test_ycck_jpeg_agrees_with_another_decoder(encode):
    levels = np.zeros((16, 32, 4), np.uint8)
    levels[:, :16], levels[:, 16:] = (90, 200, 80, 40), (160, 100, 150, 0)
    data = bytearray(encode(Image.fromarray(levels, "CMYK"), "JPEG", quality=95))
    adobe = data.index(b"Adobe\0")
    assert data[adobe + 11] == 0
    data[adobe + 11] = 2  # the same four channels, now read as YCCK
    other = cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(pixels(bytes(data)).astype(int) - other).max() <= 3
    assert np.ptp(other[:, [4, 28]].reshape(-1, 3), axis=0).max() > 20


def test_lab_and_ycbcr_tiffs(encode):
    picture = Image.new("RGB", (4, 4), (200, 100, 50))
    for mode in ("LAB", "YCbCr"):
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        other = picture.convert(mode) if mode == "YCbCr" else ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
        assert np.abs(pixels(encode(other, "TIFF")).astype(int) - (200, 100, 50)).max() <= 2, mode


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_first_frame_of_several(encode, corners, kind, options):
    first, second = Image.fromarray(corners), Image.new("RGB", (48, 32), (255, 0, 255))
    decoded = pixels(encode(first, kind, save_all=True, append_images=[second], **options))
    assert decoded.shape == corners.shape and np.abs(decoded.astype(int) - corners).max() <= 2


def test_a_gif_frame_smaller_than_its_canvas_lies_on_white():
    frame = b"\x2c" + struct.pack("<HHHHB", 1, 1, 1, 1, 0) + b"\x02\x02\x44\x01\x00"  # one pixel of colour 0 at (1, 1)
    gif = b"GIF89a" + struct.pack("<HHBBB", 3, 3, 0x80, 1, 0) + bytes([255, 0, 0, 0, 0, 255]) + b"!\xf9\x04\x01\0\0\x01\0" + frame + b";"
    decoded = pixels(gif)
    assert decoded.shape == (3, 3, 3) and decoded[1, 1].tolist() == [255, 0, 0] and decoded[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("wrong", "kind"), [("jpg", "PNG"), ("png", "WEBP"), ("gif", "JPEG"), ("txt", "BMP")])
def test_the_extension_is_not_trusted(tmp_path, encode, corners, wrong, kind):
    from matcher.images.decode import load

    (tmp_path / f"x.{wrong}").write_bytes(encode(corners, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.abs(load(tmp_path / f"x.{wrong}", settings=ImageSettings())[8, 8].astype(int) - corners[8, 8]).max() <= 4


STORED = {  # orientation -> how an upright picture must be stored to be shown upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_exif_orientation_is_undone_once(encode, corners, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](corners))
    decoded = pixels(encode(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    assert decoded.shape == corners.shape
    centres = np.ix_([8, 24], [12, 36])
    assert np.abs(decoded[centres].astype(int) - corners[centres]).max() <= 6


def test_16_bit_pictures_are_turned_too(encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(pixels(encode(Image.fromarray(DEEP), "PNG", exif=exif))[..., 0], np.rot90(SCALED, -1))


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_means_upright(encode, corners, value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert pixels(encode(corners, "PNG", exif=exif)).tolist() == corners.tolist()

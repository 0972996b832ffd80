"""Images of every kind of pixel become 8-bit RGB by one rule, or are refused with the reason."""

from __future__ import annotations

import ast
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import hybrid
from hybrid.errors import FrameDecodeError, VideoOpenError
from hybrid.frames.decoders.folder import FolderSource
from hybrid.frames.registry import open_source
from hybrid.image_file import MAX_PIXELS, read_header, read_image
from hybrid.values import Sampling
from tests.frames.full_decode import read_all
from tests.make_videos import picture, read_number

CASES = Path(__file__).parent / "data" / "cases"


def ramp(bits: int) -> npt.NDArray[np.uint16]:
    """All grey from black to white, in so many bits [40, 256]."""
    return np.linspace(0, 2**bits - 1, 40 * 256).round().astype(np.uint16).reshape(40, 256)


def rgb_of(path: Path) -> npt.NDArray[np.int64]:
    return read_image(path)[0].astype(np.int64)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_grey_of_16_bits_is_scaled(suffix: str, tmp_path: Path) -> None:
    grey = ramp(16)
    Image.fromarray(grey).save(path := tmp_path / f"grey{suffix}")
    right = np.rint(grey / 257).astype(int)
    assert (rgb_of(path) == right[..., None]).all()
    assert read_image(path)[0].dtype == np.uint8


def test_grey_of_16_bits_in_the_other_byte_order(tmp_path: Path) -> None:
    grey = ramp(16)
    image = Image.frombytes("I;16B", (256, 40), grey.astype(">u2").tobytes())
    image.save(path := tmp_path / "grey.tiff")
    assert (rgb_of(path) == np.rint(grey / 257).astype(int)[..., None]).all()


def tiff(path: Path, rows: bytes, *, width: int, height: int, bits: int, photometric: int) -> Path:
    """An uncompressed TIFF file of one strip and one channel."""
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 200)]
    tags += [(277, 3, 1), (278, 3, height), (279, 4, len(rows))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    data = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(data.ljust(200, b"\0") + rows)
    return path


def test_grey_whose_white_is_zero_is_turned_round(tmp_path: Path) -> None:
    grey = ramp(16)
    path = tiff(tmp_path / "g.tif", grey.tobytes(), width=256, height=40, bits=16, photometric=0)
    assert (rgb_of(path) == 255 - np.rint(grey / 257).astype(int)[..., None]).all()


def test_grey_of_12_bits_has_its_own_white(tmp_path: Path) -> None:
    grey = ramp(12)
    high, low = grey[:, ::2].astype(int), grey[:, 1::2].astype(int)
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], axis=2).astype(np.uint8)
    path = tiff(tmp_path / "g.tif", packed.tobytes(), width=256, height=40, bits=12, photometric=1)
    assert np.abs(rgb_of(path) - np.rint(grey / 4095 * 255).astype(int)[..., None]).max() == 0


def test_cases_of_16_bit_grey() -> None:
    found = read_all(open_source(CASES / "gray16", Sampling(1.0)))
    for k, rgb in enumerate(found.rgb):
        with Image.open(CASES / "gray16" / f"f_{k:03d}.png") as image:
            assert (rgb == np.rint(np.asarray(image) / 257)[..., None]).all()
    assert 60 < np.mean(found.rgb) < 200


def test_floats_from_0_to_1(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 40 * 256, dtype=np.float32).reshape(40, 256)
    Image.fromarray(values).save(path := tmp_path / "f.tiff")
    assert (rgb_of(path) == np.rint(values * 255).astype(int)[..., None]).all()


@pytest.mark.parametrize("span", [(0.0, 255.0), (-0.5, 1.0), (0.0, 1.01), (float("nan"), 1.0), (0.0, float("inf"))])
def test_other_floats_are_refused(span: tuple[float, float], tmp_path: Path) -> None:
    Image.fromarray(np.array([span], dtype=np.float32)).save(path := tmp_path / "f.tiff")
    with pytest.raises(FrameDecodeError, match=r"floating-point values from .* bring its values to 0 \.\. 1"):
        read_image(path)


def test_integers_of_32_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)).save(path := tmp_path / "i.tiff")
    with pytest.raises(FrameDecodeError, match="32-bit integers"):
        read_image(path)


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(path: Path, rows: bytes, *, width: int, height: int, bits: int, colour: int) -> Path:
    """A PNG file of these rows, which may be of another size than it states."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 9))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colour_and_alpha_of_16_bits(colour: int, channels: int, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 2**16, (8, 16, channels), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path = png(tmp_path / "c.png", rows, width=16, height=8, bits=16, colour=colour)
    shown = values[..., :3] if channels > 2 else values[..., :1]
    assert np.abs(rgb_of(path) - np.rint(shown / 257)).max() <= 1


def test_pixels_of_every_mode(tmp_path: Path) -> None:
    rgb = picture(7)
    for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"):
        image = Image.fromarray(rgb).convert(mode)
        suffix = {"CMYK": ".jpg", "YCbCr": ".tiff"}.get(mode, ".png")
        image.save(path := tmp_path / f"{mode}{suffix}", **({"quality": 95} if suffix == ".jpg" else {}))
        assert read_number(read_image(path)[0]) == 7, mode
        assert np.abs(rgb_of(path) - np.asarray(image.convert("RGB")).astype(int)).mean() < 2, mode


def test_alpha_is_left_out_as_ffmpeg_does(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 256, (8, 16, 4), dtype=np.uint8)
    Image.fromarray(values).save(path := tmp_path / "a.png")
    assert (read_image(path)[0] == values[..., :3]).all()
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(path),
        "-pix_fmt",
        "rgb24",
        "-f",
        "rawvideo",
        "-",
    ]
    shown = subprocess.run(command, capture_output=True, check=True).stdout
    assert shown == values[..., :3].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_eight_orientations_of_exif(orientation: int, suffix: str, tmp_path: Path) -> None:
    rgb = picture(3)
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder := tmp_path / "frames").mkdir()
    Image.fromarray(np.ascontiguousarray(undo(rgb))).save(folder / f"sec000{suffix}", exif=exif, quality=95)
    source = FolderSource(folder, Sampling(1.0))
    shown = read_all(source).rgb[0]
    assert np.abs(shown.astype(int) - rgb).mean() < 12
    assert read_number(shown) == 3
    assert (source.info.width, source.info.height) == (160, 96)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".tiff"])
def test_an_image_of_several_pictures_gives_its_first_and_says_so(suffix: str, tmp_path: Path) -> None:
    (folder := tmp_path / "frames").mkdir()
    for second in range(3):
        first, *others = (Image.fromarray(picture(10 * second + k)) for k in range(3))
        first.save(folder / f"sec{second:03d}{suffix}", save_all=True, append_images=others)
    Image.fromarray(picture(30)).save(folder / f"sec003{suffix}")
    source = FolderSource(folder, Sampling(1.0))
    assert [read_number(rgb) for rgb in read_all(source).rgb] == [0, 10, 20, 30]
    assert source.report().note == "3 images hold several pictures; the first one is taken"


def test_only_listed_formats_are_tried(tmp_path: Path) -> None:
    """Pillow hands EPS to Ghostscript, whatever the file is named."""
    (path := tmp_path / "sec000.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(FrameDecodeError, match=r"sec000.png cannot be read: it is none of BMP, GIF"):
        read_image(path)


def bomb(path: Path) -> Path:
    """A small PNG file of 13,000 x 13,000 black pixels."""
    return png(path, bytes((1 + 13_000 // 8) * 13_000), width=13_000, height=13_000, bits=1, colour=0)


READ_FOLDER = """
import resource, sys
from hybrid.frames.registry import open_source
from hybrid.values import Sampling
source = open_source(sys.argv[1], Sampling(1.0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(source.read())
    print("read")
except Exception as exc:
    print(type(exc).__name__, exc)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (folder := tmp_path / "frames").mkdir()
    path = bomb(folder / "sec000.png")
    assert path.stat().st_size < 40_000
    done = subprocess.run([sys.executable, "-c", READ_FOLDER, str(folder)], capture_output=True, text=True, check=True)
    message, megabytes = done.stdout.splitlines()
    assert "13000 x 13000 pixels; at most 67,108,864 are read" in message
    assert int(megabytes) < 30
    assert done.stderr == ""


@pytest.mark.parametrize("size", [(8193, 8192), (65_535, 65_535), (2**31 - 1, 1), (1, 2**27)])
def test_every_size_over_the_limit_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    path = png(tmp_path / "b.png", bytes(100), width=size[0], height=size[1], bits=8, colour=0)
    for read in (read_header, read_image):
        with pytest.raises(FrameDecodeError, match=r"pixels|too large"):
            read(path)


def test_the_limit_lies_above_8k_video() -> None:
    assert MAX_PIXELS > 7680 * 4320


def with_raw_pictures(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("rawvideo", rate=1)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("width", "height"), [(16_384, 16_384), (65_535, 65_535), (8_192, 8_200)])
def test_a_video_that_states_absurd_sizes_is_refused(width: int, height: int, tmp_path: Path) -> None:
    path = with_raw_pictures(tmp_path / "large.avi")
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, data.index(b"strf") + 12, width, height)
    path.write_bytes(data)
    with pytest.raises(VideoOpenError, match=r"their size is not known: .* of more than 67,108,864 pixels"):
        open_source(path, Sampling(1.0))


def test_a_video_of_pictures_over_the_limit_is_refused(tmp_path: Path) -> None:
    """Matroska keeps the size that it states."""
    path = tmp_path / "large.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 9_000, 8_000, "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((8_000, 9_000), np.uint8), format="gray")
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(VideoOpenError, match=r"9000 x 8000 pixels; at most 67,108,864 .* ffmpeg -i large.mkv|size is"):
        open_source(path, Sampling(1.0))


def test_a_picture_that_grows_in_the_middle_is_refused(tmp_path: Path) -> None:
    """What the header states is small; the third picture says that it is of 16,000 x 16,000."""
    path = tmp_path / "grows.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    begin = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xc0"][2]
    struct.pack_into(">HH", data, begin + 5, 16_000, 16_000)
    path.write_bytes(data)
    done = subprocess.run([sys.executable, "-c", READ_FOLDER, str(path)], capture_output=True, text=True, check=True)
    message, megabytes = done.stdout.splitlines()
    assert message == "read"
    assert int(megabytes) < 50
    source = open_source(path, Sampling(1.0))
    assert read_all(source).ordinals == [0, 1, 3, 4]
    assert [gap.ordinal for gap in source.report().missing] == [2]


def test_a_large_image_as_a_video_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.png")
    with pytest.raises(VideoOpenError, match="pixels"):
        open_source(path, Sampling(1.0))


def test_animated_webp_is_named_as_what_it_is() -> None:
    with pytest.raises(VideoOpenError, match=r"animated WebP.*make a GIF or a video of it"):
        open_source(CASES / "anim.webp", Sampling(1.0))


def test_nothing_else_opens_images() -> None:
    package = Path(hybrid.__file__).parent
    openers = []
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "Image.open":
                openers.append(file.relative_to(package).as_posix())
    assert openers == ["image_file.py"]

"""Turned, mirrored and cropped pictures, held against what ffmpeg's own command line shows."""

from __future__ import annotations

import importlib.util
import math
import struct
import subprocess
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from hybrid.frames.decoders.pyav import PyAVSource
from hybrid.frames.decoding.pictures import AS_STORED, orientation_of_matrix
from hybrid.values import Sampling
from tests.make_videos import encode, x264

CASES = Path(__file__).parent.parent / "data" / "cases"

ONE = 1 << 16
TURNED = {
    "0": (ONE, 0, 0, ONE),
    "90": (0, ONE, -ONE, 0),
    "180": (-ONE, 0, 0, -ONE),
    "270": (0, -ONE, ONE, 0),
    "mirrored": (-ONE, 0, 0, ONE),
    "upside down": (ONE, 0, 0, -ONE),
    "transposed": (0, ONE, ONE, 0),
    "transversed": (0, -ONE, -ONE, 0),
    "doubled": (2 * ONE, 0, 0, 2 * ONE),
    "90, stretched": (0, 3 * ONE, -ONE // 2, 0),
    "mirrored, halved": (-ONE // 2, 0, 0, ONE // 2),
    "zeros": (0, 0, 0, 0),
    "one zero": (0, ONE, 0, 0),
    "nearly 90": (-300, ONE, -ONE, -300),
}
"""Matrices as an MP4 file has them: a, b, c, d."""
FIRST_AS_PPM = ("-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-")


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds without a matrix of its own, in pictures without any symmetry."""
    folder = tmp_path_factory.mktemp("display")
    return encode(folder / "upright.mp4", "libx264", options=x264(), gop=30, frames=60)


def with_matrix(path: Path, source: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The file with another matrix in its track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(source.read_bytes())
    begin = data.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    struct.pack_into(">9i", data, begin, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


def by_ffmpeg(path: Path) -> npt.NDArray[np.uint8]:
    """The first picture as ffmpeg's command line shows it."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    shown = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), *FIRST_AS_PPM],
        capture_output=True,
        check=True,
    ).stdout
    _, size, _, pixels = shown.split(b"\n", 3)
    width, height = map(int, size.split())
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)


def first_picture(path: Path) -> npt.NDArray[np.uint8]:
    """The first picture as it is sampled; its size is the one that the source states."""
    source = PyAVSource(path, Sampling(1.0), threads=1)
    rgb = next(iter(source.read())).rgb[0]
    assert rgb.shape == (source.info.height, source.info.width, 3)
    return rgb


def assert_like(ours: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> None:
    """The same picture but for rounding: ffmpeg turns before it converts to RGB."""
    assert ours.shape == right.shape
    assert np.abs(ours.astype(int) - right).mean() < 2.0


@pytest.mark.parametrize("name", TURNED)
def test_shown_as_ffmpeg_shows_it(name: str, upright: Path, tmp_path: Path) -> None:
    path = with_matrix(tmp_path / "turned.mp4", upright, TURNED[name])
    assert_like(first_picture(path), by_ffmpeg(path))


@pytest.mark.parametrize("name", ["zero_matrix.mp4", "hflip.mp4", "vflip.mp4"])
def test_cases_are_shown_as_ffmpeg_shows_them(name: str) -> None:
    assert_like(first_picture(CASES / name), by_ffmpeg(CASES / name))


def test_the_eight_orientations_differ(upright: Path, tmp_path: Path) -> None:
    """Or the comparison above would prove nothing."""
    eight = list(TURNED)[:8]
    shown = [first_picture(with_matrix(tmp_path / f"{k}.mp4", upright, TURNED[name])) for k, name in enumerate(eight)]
    for k, one in enumerate(shown):
        for other in shown[:k]:
            assert one.shape != other.shape or np.abs(one.astype(int) - other).mean() > 10


@pytest.mark.parametrize("degrees", [1, 30, 45, 60, 89, 120, 300])
def test_other_turns_are_not_applied_but_named(degrees: int, upright: Path, tmp_path: Path) -> None:
    cosine, sine = (round(ONE * f(math.radians(degrees))) for f in (math.cos, math.sin))
    path = with_matrix(tmp_path / "oblique.mp4", upright, (cosine, sine, -sine, cosine))
    source = PyAVSource(path, Sampling(1.0), threads=1)
    rgb = next(iter(batches := source.read())).rgb[0]
    assert (rgb == first_picture(upright)).all()
    for _ in batches:
        pass
    assert f"{(degrees + 180) % 360 - 180} degrees" in (source.report().note or "")
    assert source.report().cut is False


def test_a_singular_matrix_states_nothing() -> None:
    for matrix in ((0,) * 9, (0, 5, 0, 0, 0, 0, 0, 0, 1), (7, 0, 0, 0, 0, 0, 0, 0, 1)):
        assert orientation_of_matrix(matrix) == AS_STORED


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("crop", [(16, 8, 4, 2), (2, 0, 0, 0), (0, 0, 6, 10), (34, 2, 18, 0)])
def test_the_crop_of_the_stream_is_applied(codec: str, crop: tuple[int, int, int, int], tmp_path: Path) -> None:
    left, right, top, bottom = crop
    filter_name = {"libx264": "h264_metadata", "libx265": "hevc_metadata"}[codec]
    options = x264() if codec == "libx264" else {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"}
    plain = encode(tmp_path / "plain.mkv", codec, options=options, gop=10, frames=40)
    path = tmp_path / "cropped.mkv"
    given = f"{filter_name}=crop_left={left}:crop_right={right}:crop_top={top}:crop_bottom={bottom}"
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(plain), "-c", "copy", "-bsf:v", given]
    subprocess.run([*command, str(path)], check=True)
    ours, right_one = first_picture(path), by_ffmpeg(path)
    assert_like(ours, right_one)
    whole = first_picture(plain)
    assert_like(ours, whole[top : whole.shape[0] - bottom, left : whole.shape[1] - right])


def with_pixel_crop(path: Path, crop: tuple[int, int, int, int]) -> Path:
    """A Matroska file whose track is cropped: these elements stand in the place of those of its colours."""
    encode(path, "libx264", options=x264(), gop=10, frames=12, colour=(1, 2, 1, 1))
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x55\xb0")
    size = 3 + (data[begin + 2] & 0x7F)
    elements = zip((0x54CC, 0x54DD, 0x54BB, 0x54AA), crop, strict=True)
    new = b"".join(struct.pack(">HBB", name, 0x81, pixels) for name, pixels in elements)
    rest = size - len(new) - 2
    data[begin : begin + size] = new + bytes([0xEC, 0x80 | rest]) + bytes(rest)
    path.write_bytes(data)
    return path


def with_aperture(path: Path, aperture: tuple[int, ...]) -> Path:
    """An MP4 file with a clean aperture: width, height and offset from the centre, each as a fraction."""
    encode(path, "libx264", options=x264(), gop=10, frames=12)
    data = bytearray(path.read_bytes())
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", *aperture)
    moov = data.index(b"moov")  # behind the pictures, so that their places stay
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        begin = data.index(name, moov) - 4
        (size,) = struct.unpack_from(">I", data, begin)
        struct.pack_into(">I", data, begin, size + len(box))
    data[begin + size : begin + size] = box
    path.write_bytes(data)
    return path


PIXEL_CROPS = [(16, 8, 4, 2), (3, 1, 5, 1), (3, 0, 0, 0), (4, 3, 1, 2), (0, 0, 0, 0)]
APERTURES = [
    (120, 1, 80, 1, 0, 1, 0, 1),
    (120, 1, 80, 1, 6, 1, -2, 1),
    (121, 1, 81, 1, 0, 1, 0, 1),
    (1205, 10, 805, 10, 5, 10, 5, 10),
    (200, 1, 80, 1, 0, 1, 0, 1),
    (120, 1, 80, 1, 60, 1, 0, 1),
    (120, 0, 80, 1, 0, 1, 0, 1),
]
"""The last three make no sense."""


@pytest.mark.parametrize("crop", PIXEL_CROPS)
def test_the_crop_of_matroska_is_applied(crop: tuple[int, int, int, int], tmp_path: Path) -> None:
    path = with_pixel_crop(tmp_path / "cropped.mkv", crop)
    ours, right = first_picture(path), by_ffmpeg(path)
    assert_like(ours, right)
    assert (ours.shape != (96, 160, 3)) == any(crop)


@pytest.mark.parametrize("aperture", APERTURES)
def test_the_clean_aperture_of_mp4_is_applied(aperture: tuple[int, ...], tmp_path: Path) -> None:
    path = with_aperture(tmp_path / "cropped.mp4", aperture)
    ours, right = first_picture(path), by_ffmpeg(path)
    assert_like(ours, right)
    assert (ours.shape == (96, 160, 3)) == (aperture in APERTURES[4:])


def test_what_is_cropped_is_then_turned(tmp_path: Path) -> None:
    path = with_aperture(tmp_path / "cropped.mp4", APERTURES[1])
    turned = with_matrix(tmp_path / "turned.mp4", path, TURNED["90"])
    assert first_picture(turned).shape == (120, 80, 3)
    assert_like(first_picture(turned), by_ffmpeg(turned))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.97, 0.99])
def test_a_header_that_cannot_be_read_is_no_crop(share: float, tmp_path: Path) -> None:
    from hybrid.frames.container.boxes import NO_CROP, container_crop

    for made in (with_pixel_crop(tmp_path / "c.mkv", PIXEL_CROPS[0]), with_aperture(tmp_path / "c.mp4", APERTURES[0])):
        data = made.read_bytes()
        with av.open(str(made)) as container:
            (cut := tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
            stream = container.streams.video[0]
            assert container_crop(str(made), container, stream) != NO_CROP
            assert len(container_crop(str(cut), container, stream)) == 4
            noise = np.random.default_rng(3).integers(0, 256, len(data), dtype=np.uint8).tobytes()
            cut.write_bytes(noise)
            assert container_crop(str(cut), container, stream) == NO_CROP


@pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")
def test_decord_knows_quarter_turns_only(upright: Path, tmp_path: Path) -> None:
    """As its module's text says; what has become right must be taken out there."""
    from hybrid.frames.decoders.decord import DecordSource

    def by_decord(path: Path) -> npt.NDArray[np.uint8]:
        return next(iter(DecordSource(path, Sampling(1.0)).read())).rgb[0]

    turned = with_matrix(tmp_path / "turned.mp4", upright, TURNED["90"])
    assert (by_decord(turned) == first_picture(turned)).all()
    mirrored = with_matrix(tmp_path / "mirrored.mp4", upright, TURNED["mirrored"])
    assert (by_decord(mirrored) == first_picture(upright)[::-1, ::-1]).all()
    for cropped in (
        with_pixel_crop(tmp_path / "c.mkv", PIXEL_CROPS[0]),
        with_aperture(tmp_path / "c.mp4", APERTURES[0]),
    ):
        assert by_decord(cropped).shape == (96, 160, 3)
    left = encode(tmp_path / "l.mkv", "libx264", options=x264(x264_params="crop-rect=16,8,4,2"), frames=30)
    ours, theirs = first_picture(left), by_decord(left)
    assert ours.shape != theirs.shape or np.abs(ours.astype(int) - theirs).mean() > 5


def test_pixels_that_are_not_square_stay_as_stored(tmp_path: Path) -> None:
    """Anamorphic video: as ffmpeg writes it. A player would stretch it."""
    path = tmp_path / "anamorphic.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options=x264())
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), 40 * number, np.uint8), format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
    assert first_picture(path).shape == by_ffmpeg(path).shape == (96, 160, 3)

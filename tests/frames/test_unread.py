"""What a file holds beside the stream that is read: said where it is video, and nothing said of anything else."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from hybrid.frames.interface import ReadReport
from hybrid.frames.packets.scan import scan
from hybrid.frames.registry import open_source
from hybrid.values import Sampling
from tests.make_videos import WHOLE, encode, picture, read_number

CASES = Path(__file__).resolve().parent.parent / "data" / "cases"
NOT_READ = "not read"


def _read(path: Path, *, rate: float = 1.0) -> tuple[list[int], list[float], ReadReport]:
    with open_source(path, Sampling(rate)) as source:
        batches = list(source.read())
        numbers = [read_number(rgb) for batch in batches for rgb in batch.rgb]
        return numbers, [float(time) for batch in batches for time in batch.pts_seconds], source.report()


APPENDED = {
    "mp4": ("mpeg4", {}),
    "mov": ("mpeg4", {}),
    "faststart.mp4": ("mpeg4", {"movflags": "faststart"}),
    "fragments.mp4": ("mpeg4", {"movflags": "frag_keyframe+empty_moov"}),
    "flv": ("flv", {}),
    "asf": ("wmv2", {}),
    "swf": ("flv", {}),
    "nut": ("mpeg4", {}),
    "ivf": ("libvpx", {}),
    "apng": ("apng", {}),
}


def _two_parts(folder: Path, kind: str, codec: str, container: dict[str, str]) -> tuple[Path, Path]:
    """A video of 2 s, and the same file with another one of 3 s appended."""
    first, second = (
        encode(folder / f"{seconds}.{kind}", codec, frames=seconds * 25, fps=25, gop=12, container=container,
               pix_fmt="rgb24" if codec == "apng" else "yuv420p")
        for seconds in (2, 3)
    )  # fmt: skip
    both = folder / f"both.{kind}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    return first, both


@pytest.mark.parametrize("kind", APPENDED)
def test_a_file_that_is_appended_is_said_with_its_length(kind: str, tmp_path: Path) -> None:
    first, both = _two_parts(tmp_path, kind, *APPENDED[kind])
    alone = scan(first)
    assert not alone.cut
    assert NOT_READ not in (alone.note or "")
    movie = scan(both)
    size = first.stat().st_size
    assert movie.cut
    assert f"3.0 s is appended at byte {size:,} of {both.stat().st_size:,} and was not read" in str(movie.note)
    assert f"tail -c +{size + 1} FILE" in str(movie.note)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mkv", "mpeg4"), ("webm", "libvpx"), ("avi", "mpeg4"), ("ts", "mpeg2video"), ("mpg", "mpeg2video"),
     ("m2v", "mpeg2video"), ("gif", "gif")],
)  # fmt: skip
def test_where_appended_files_are_read_on_nothing_is_reported(kind: str, codec: str, tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{n}.{kind}", codec, frames=50, fps=25, gop=12,
                    pix_fmt="rgb8" if codec == "gif" else "yuv420p") for n in range(2)]  # fmt: skip
    both = tmp_path / f"both.{kind}"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    numbers, _, report = _read(both)
    assert len(numbers) == 4
    assert not report.cut
    assert NOT_READ not in (report.note or "")


def test_the_reported_webm_names_its_bytes() -> None:
    numbers, _, report = _read(CASES / "cat.webm")
    assert len(numbers) == 8
    assert report.cut
    assert "another video of 4.0 s is appended at byte 162,350 of 245,848 and was not read" in str(report.note)


def test_headers_of_the_second_ogg_take_no_time(tmp_path: Path) -> None:
    parts = []
    for first in (0, 100):
        path = tmp_path / f"{first}.ogg"
        with av.open(str(path), "w", format="ogg") as out:
            stream = out.add_stream("libvpx", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
            for number in range(first, first + 50):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
            out.mux(stream.encode(None))
        parts.append(path.read_bytes())
    (tmp_path / "both.ogg").write_bytes(b"".join(parts))
    numbers, times, report = _read(tmp_path / "both.ogg", rate=5.0)
    assert numbers == [*range(0, 50, 5), *range(100, 150, 5)]
    assert times == pytest.approx(np.arange(20) / 5)
    assert not report.missing
    assert report.duration_seconds == pytest.approx(4.0)


def _ts(path: Path, pid: int, seconds: int, *, size: tuple[int, int] = (160, 96)) -> bytes:
    codec = "mpeg1video" if path.suffix == ".mpg" else "mpeg2video"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.id = pid
        for number in range(seconds * 25):
            image = picture(number, width=size[0], height=size[1])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("order", "read", "unread"),
    [("AB", 4, 3.0), ("BA", 3, 4.0), ("ABA", 8, 3.0), ("ABC", 4, 5.0), ("A", 4, 0.0), ("AA", 8, 0.0)],
)
def test_video_under_another_pid_is_said_with_its_seconds(order: str, read: int, unread: float, tmp_path: Path) -> None:
    parts = {"A": (0x100, 4), "B": (0x309, 3), "C": (0x40A, 2)}
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(_ts(tmp_path / "part.ts", *parts[name]) for name in order))
    movie = scan(path)
    assert movie.end_seconds == pytest.approx(read, abs=0.1)
    assert movie.cut == bool(unread)
    assert (f"{unread:.1f} s of video in another stream" in str(movie.note)) == bool(unread)


def test_the_reported_stream_names_its_seconds() -> None:
    numbers, _, report = _read(CASES / "pid_change.ts")
    assert len(numbers) == 8
    assert report.cut
    assert "8.0 s of video in another stream of the file were not read" in str(report.note)


def _two_streams(path: Path, *, seconds: int, offset: int) -> Path:
    """A stream of 2 s, and a second one of ``seconds`` that begins ``offset`` seconds after it."""
    codec = "mpeg2video" if path.suffix == ".ts" else "mpeg4"
    with av.open(str(path), "w") as out:
        streams = []
        for _ in range(2):
            stream = out.add_stream(codec, rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
            streams.append(stream)
        for number in range(max(50, (offset + seconds) * 25)):
            for stream, begin, end in ((streams[0], 0, 50), (streams[1], offset * 25, (offset + seconds) * 25)):
                if begin <= number < end:
                    frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind", ["mkv", "mp4", "mov", "avi", "nut", "ts"])
def test_a_second_track_that_goes_on_is_said(kind: str, tmp_path: Path) -> None:
    after = scan(_two_streams(tmp_path / f"after.{kind}", seconds=3, offset=2))
    assert after.cut
    length = 3.0 if after.end_seconds == pytest.approx(2.0, abs=0.1) else 2.0
    assert f"{length:.1f} s of video in another stream" in str(after.note)
    beside = scan(_two_streams(tmp_path / f"beside.{kind}", seconds=2, offset=0))
    assert not beside.cut
    assert beside.note == "1 more video stream runs beside this one and is not read (160x96)"


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_slow_stream_beside_a_fast_one_is_no_second_part(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"slow.{kind}"
    with av.open(str(path), "w") as out:
        streams = []
        for rate in (Fraction(1, 5), Fraction(5)):
            stream = out.add_stream("mpeg4", rate=rate)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
            streams.append(stream)
        for number in range(100):
            for stream in streams[number % 25 != 0 :]:
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 5)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    assert "s of video in another stream" not in (scan(path).note or "")
    assert not scan(path).cut


def test_the_alpha_plane_of_an_image_sequence_is_not_the_video(tmp_path: Path) -> None:
    from PIL import Image, features

    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    noise = np.random.default_rng(0)
    images = [Image.fromarray(np.dstack([picture(n), noise.integers(0, 255, (96, 160), np.uint8)])) for n in range(8)]
    path = tmp_path / "alpha.avif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=500, quality=60, speed=10)
    numbers, _, report = _read(path)
    assert numbers == [0, 2, 4, 6]
    assert report.note is None


def test_a_cover_picture_is_neither_the_video_nor_unread(tmp_path: Path) -> None:
    from av.stream import Disposition

    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        cover = out.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        assert isinstance(cover, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(picture(7, width=640, height=480), format="rgb24")))
        out.mux(cover.encode(None))
        for number in range(50):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        out.mux(stream.encode(None))
    numbers, _, report = _read(path)
    assert numbers == [0, 25]
    assert report.note is None


_BOX = (50_000).to_bytes(4, "big") + b"free" + b"ftypisom" * 6249
TRAILERS = {
    "zeros": bytes(100_000),
    "id3v1": b"TAG" + bytes(125),
    "ape": b"APETAGEX\xd0\x07\0\0" + bytes(500),
    "noise": np.random.default_rng(5).integers(0, 256, 60_000, np.uint8).tobytes(),
    "free": _BOX,
    "zip": b"PK\x03\x04" + bytes(400),
    "null packets": (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 300,
    "signatures": b"".join(
        head + bytes(300)
        for head in (b"FLV\x01", b"\x1a\x45\xdf\xa3", b"DKIF\0\0", b"RIFF", b"FWS\x09", b"\0\0\0\x14ftypisom")
    ),
}  # fmt: skip


@pytest.mark.parametrize("trailer", TRAILERS)
def test_what_is_no_video_is_not_reported(trailer: str, tmp_path: Path) -> None:
    kinds = (
        ("mp4", "mpeg4"),
        ("mkv", "mpeg4"),
        ("flv", "flv"),
        ("ts", "mpeg2video"),
        ("avi", "mpeg4"),
        ("ivf", "libvpx"),
    )
    for kind, codec in kinds:
        path = encode(tmp_path / f"a.{kind}", codec, frames=30, fps=25, gop=12)
        path.write_bytes(path.read_bytes() + TRAILERS[trailer])
        assert NOT_READ not in (scan(path).note or ""), kind


def test_sound_that_goes_on_is_not_reported(tmp_path: Path) -> None:
    for kind in ("mp4", "mov", "mkv", "avi"):
        container = "mov" if kind == "mp4" else kind  # MP4 takes no PCM
        path = encode(tmp_path / f"a.{container}", "mpeg4", frames=30, fps=25, sound_from_zero=True)
        assert NOT_READ not in (scan(path).note or ""), kind


def test_no_alarm_on_healthy_clips(clips: dict[str, Path]) -> None:
    for name in WHOLE:
        assert NOT_READ not in (scan(clips[name]).note or ""), name


def test_no_alarm_on_real_videos(shared_data: Path) -> None:
    for path in sorted((shared_data / "videos").iterdir()):
        # One of them has a second stream beside the first, of other pictures.
        beside = "1 more video stream runs beside this one and is not read (320x180)"
        assert scan(path).note == (beside if path.name == "nasa_13013.mp4" else None), path.name

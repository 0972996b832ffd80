"""Makes the small clips that the tests of the decoders read: ``python tests/make_videos.py FOLDER``.

Every picture carries its own number as a bar code that survives lossy coding, so a test reads from
the pixels which frame it got, and need not believe anybody's time stamps. Each function below makes
one kind of clip.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType
from filelock import FileLock

WIDTH, HEIGHT = 160, 96
CELL, BITS = 12, 12
RGB = npt.NDArray[np.uint8]

FPS = 30
MS = Fraction(1, 1000)


def picture(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> RGB:
    """A moving pattern with ``number`` (below 4096) as twelve black or white cells at the top."""
    x, y = np.arange(width), np.arange(height)[:, None]
    wave = 96 + 40 * np.sin((x + 2 * number) / 9.0) + 40 * np.sin((y - number) / 7.0)
    colour = np.stack([wave, np.roll(wave, number, 1), 255 - wave], axis=2)
    noise = np.random.default_rng(number).integers(-8, 8, (height, width, 1))
    image = np.clip(colour + noise, 0, 255).astype(np.uint8)
    image[: 2 * CELL] = 128
    for bit in range(BITS):
        image[: 2 * CELL, bit * CELL : (bit + 1) * CELL] = 255 * (number >> bit & 1)
    return image


def read_number(rgb: RGB) -> int:
    """The number in a picture of :func:`picture`."""
    grey = rgb[CELL // 2 : CELL + CELL // 2].mean(axis=(0, 2))
    cells = [grey[bit * CELL + 3 : (bit + 1) * CELL - 3].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, value in enumerate(cells) if value > 128)


def encode(
    path: Path,
    codec: str,
    *,
    frames: int = 300,
    fps: Fraction | int = FPS,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    gop: int | None = None,
    pix_fmt: str = "yuv420p",
    container: dict[str, str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rotate: int = 0,
    sound_from_zero: bool = False,
    colour: Sequence[int] | None = None,
) -> Path:
    """Encode pictures 0 .. frames - 1, at ``times`` (ticks of ``time_base``) or at a constant rate."""
    base = time_base or 1 / Fraction(fps)
    with av.open(str(path), "w", container_options=container or {}) as out:
        stream = out.add_stream(codec, rate=Fraction(fps), options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        if gop is not None:
            stream.codec_context.gop_size = gop
        if colour is not None:
            names = ("colorspace", "color_range", "color_primaries", "color_trc")
            for name, value in zip(names, colour, strict=False):
                setattr(stream.codec_context, name, value)
        if rotate:
            stream.set_display_rotation(rotate)
        if sound_from_zero:
            _mux_silence(out, seconds=frames / float(fps) + 6)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width=size[0], height=size[1]), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _mux_silence(out: av.container.OutputContainer, *, seconds: float) -> None:
    stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
    for start in range(0, int(seconds * 8000), 800):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


X264 = {"preset": "veryfast", "crf": "28"}


def x264(**options: str) -> dict[str, str]:
    """Options of x264 without scene cuts, so that key frames lie where they are meant to."""
    return {**X264, "sc_threshold": "0", **{name.replace("_", "-"): value for name, value in options.items()}}


def uneven_times(frames: int, *, seed: int, low: int = 5, high: int = 110) -> list[int]:
    """Times in milliseconds with uneven distances."""
    steps = np.random.default_rng(seed).integers(low, high, frames - 1)
    return [0, *np.cumsum(steps).tolist()]


def gap_times(frames: int, *, gap_ms: int) -> list[int]:
    """Uneven times with one long gap in the middle."""
    times = uneven_times(frames, seed=2)
    return times[: frames // 2] + [t + gap_ms for t in times[frames // 2 :]]


def resized(path: Path) -> Path:
    """A stream whose pictures change their size half way, each part with headers of its own (MPEG-TS)."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options=x264())
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 60
        for part, size in enumerate([(WIDTH, HEIGHT), (192, 128)]):
            context = av.CodecContext.create("libx264", "w")
            context.width, context.height, context.pix_fmt = *size, "yuv420p"
            context.time_base, context.framerate = Fraction(1, FPS), Fraction(FPS)
            context.options, context.gop_size = x264(), 60
            for number in range(part * 120, part * 120 + 120):
                frame = av.VideoFrame.from_ndarray(picture(number, width=size[0], height=size[1]), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                _mux_as(out, stream, context.encode(frame))
            _mux_as(out, stream, context.encode(None))
    return path


def _mux_as(
    out: av.container.OutputContainer, stream: av.VideoStream, packets: Iterable[av.Packet[av.VideoStream]]
) -> None:
    for packet in packets:
        packet.stream = stream
        packet.time_base = Fraction(1, FPS)
        out.mux(packet)


def repeated(path: Path, source: Path, *, times: int) -> Path:
    """The source several times over, by copying its packets with later time stamps."""
    with av.open(str(path), "w") as out:
        target: av.VideoStream | None = None
        for turn in range(times):
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                target = target or out.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if packet.dts is not None:
                        packet.pts += turn * stream.duration
                        packet.dts += turn * stream.duration
                        packet.stream = target
                        out.mux(packet)
    return path


def first_part(path: Path, source: Path, share: float) -> Path:
    """The beginning of a file."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def flipped(path: Path, source: Path, *, every: int = 3_001) -> Path:
    """An MP4 file with one bit wrong here and there in its video data."""
    data = bytearray(source.read_bytes())
    begin = data.index(b"mdat") + 2_000
    end = data.find(b"moov", begin)
    for place in range(begin, end if end > 0 else len(data), every):
        data[place] ^= 0x40
    path.write_bytes(bytes(data))
    return path


def holed(path: Path, source: Path, *, size: int = 4_000) -> Path:
    """A file with a stretch of zeros in the middle."""
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + size] = bytes(size)
    path.write_bytes(bytes(data))
    return path


def joined(path: Path, parts: Sequence[Path]) -> Path:
    """MPEG-TS files one after another, as ``cat`` does it: the clock starts over with every part."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def with_stated_length(path: Path, source: Path, *, seconds: float) -> Path:
    """A Matroska file whose header states another length (element Duration, 44 89, in milliseconds)."""
    data = bytearray(source.read_bytes())
    place = data.index(b"\x44\x89\x88")
    struct.pack_into(">d", data, place + 3, seconds * 1000)
    path.write_bytes(bytes(data))
    return path


def with_long_last_frame(path: Path, source: Path, *, ticks: int) -> Path:
    """An MP4 file whose last entry in the table of durations (stts) states another duration."""
    data = bytearray(source.read_bytes())
    place = data.index(b"stts")
    (entries,) = struct.unpack_from(">I", data, place + 8)
    last = place + 12 + 8 * (entries - 1)
    assert struct.unpack_from(">I", data, last) == (1,), "the last entry must be that of one frame"
    struct.pack_into(">I", data, last + 4, ticks)
    path.write_bytes(bytes(data))
    return path


def sound_only(path: Path) -> Path:
    """A container with nothing but sound."""
    with av.open(str(path), "w") as out:
        _mux_silence(out, seconds=2)
    return path


def cover_art(path: Path) -> Path:
    """Sound with a cover picture, which FFmpeg shows as a video stream."""
    with av.open(str(path), "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(picture(1), format="rgb24")
        image.pts, image.time_base, image.pict_type = 0, Fraction(1), PictureType.I
        out.mux([*cover.encode(image), *cover.encode(None)])
        for start in range(0, 16000, 800):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


def image_folder(folder: Path, numbers: Iterable[int] = range(12)) -> Path:
    """A folder of images ``sec000.png`` ..."""
    from PIL import Image

    folder.mkdir()
    for number in numbers:
        Image.fromarray(picture(number)).save(folder / f"sec{number:03d}.png")
    return folder


def _whole_clips(d: Path) -> dict[str, Callable[[], Path]]:
    """Undamaged clips by name."""
    svt = {"preset": "12", "crf": "45", "svtav1-params": "lp=1"}
    x265 = {"preset": "ultrafast", "x265-params": "keyint=60:min-keyint=60:log-level=none:pools=none"}
    layers = {"preset": "ultrafast", "x265-params": "temporal-layers=3:bframes=4:b-pyramid=1:keyint=60:log-level=none"}
    vp9 = {"deadline": "realtime", "cpu-used": "8"}
    times = uneven_times(200, seed=1)
    return {
        "long_gop": lambda: encode(d / "long_gop.mp4", "libx264", options=x264(), gop=250),
        "short_gop": lambda: encode(d / "short_gop.mp4", "libx264", options=x264(), gop=30),
        "pyramid": lambda: encode(
            d / "pyramid.mkv", "libx264", options=x264(bf="7", b_pyramid="normal", refs="5"), gop=100
        ),
        "open_gop": lambda: encode(
            d / "open_gop.mkv", "libx264", options={**x264(bf="3"), "x264-params": "open-gop=1"}, gop=60
        ),
        "refresh": lambda: encode(
            d / "refresh.ts", "libx264", options={**x264(bf="0"), "x264-params": "intra-refresh=1"}, gop=60
        ),
        "interlaced": lambda: encode(
            d / "interlaced.mp4", "libx264", options={**x264(), "x264-params": "tff=1"}, gop=60, frames=180
        ),
        "hevc": lambda: encode(d / "hevc.mp4", "libx265", options=x265, frames=240),
        "hevc_layers": lambda: encode(d / "hevc_layers.mkv", "libx265", options=layers, frames=180),
        "vp9": lambda: encode(d / "vp9.webm", "libvpx-vp9", options=vp9, gop=60, frames=240),
        "av1": lambda: encode(d / "av1.mkv", "libsvtav1", options=svt, gop=64, frames=200),
        "ts": lambda: encode(d / "ts.ts", "libx264", options=x264(), gop=60),
        "mpeg2": lambda: encode(d / "mpeg2.ts", "mpeg2video", options={"bf": "2", "b": "1M"}, gop=15),
        "mpeg4": lambda: encode(d / "mpeg4.mp4", "mpeg4", options={"bf": "2", "b": "1M"}, gop=50),
        "avi": lambda: encode(d / "avi.avi", "mpeg4", options={"bf": "2", "b": "1M"}, gop=50),
        "no_pts": lambda: encode(d / "no_pts.avi", "libx264", options=x264(), gop=60, frames=150),
        "raw": lambda: encode(d / "raw.h264", "libx264", options=x264(), gop=60, frames=150),
        "mjpeg": lambda: encode(d / "mjpeg.mkv", "mjpeg", pix_fmt="yuvj420p", frames=90),
        "vfr": lambda: encode(d / "vfr.mp4", "libx264", options=x264(), gop=48, frames=200, times=times, time_base=MS),
        "gap": lambda: encode(
            d / "gap.mkv",
            "libx264",
            options=x264(),
            gop=48,
            frames=200,
            time_base=MS,
            times=gap_times(200, gap_ms=20_000),
        ),
        "ntsc": lambda: encode(d / "ntsc.mp4", "libx264", options=x264(), gop=90, fps=Fraction(30000, 1001)),
        "ten_bit": lambda: encode(
            d / "ten_bit.mkv", "libx264", options=x264(), gop=60, pix_fmt="yuv420p10le", frames=120
        ),
        "late_start": lambda: encode(
            d / "late_start.mkv",
            "libx264",
            options=x264(),
            gop=60,
            frames=120,
            time_base=MS,
            times=[5000 + round(n * 1000 / 30) for n in range(120)],
        ),
        "delayed": lambda: encode(
            d / "delayed.mkv",
            "libx264",
            options=x264(),
            gop=60,
            frames=120,
            time_base=MS,
            sound_from_zero=True,
            times=[2500 + round(n * 1000 / 30) for n in range(120)],
        ),
        "rotated": lambda: encode(d / "rotated.mp4", "libx264", options=x264(), gop=60, frames=90, rotate=90),
        "bt709": lambda: encode(d / "bt709.mp4", "libx264", options=x264(), gop=60, frames=60, colour=(1, 2)),
        "resized": lambda: resized(d / "resized.ts"),
    }


WHOLE = tuple(_whole_clips(Path()))
"""Names of the undamaged clips."""
DAMAGED = {"cut_mp4": "fast", "cut_mkv": "pyramid", "flipped": "fast", "flipped_open": "open_mp4", "hole": "fast"}
"""Clips that open but lack something, and what each was made from."""


def make_clips(folder: Path) -> dict[str, Path]:
    """Make every clip that opens as a video; its path by its name."""
    clips = {name: make() for name, make in _whole_clips(folder).items()}
    fast = encode(folder / "fast.mp4", "libx264", options=x264(), gop=60, container={"movflags": "faststart"})
    clips["fast"] = fast
    clips["cut_mp4"] = first_part(folder / "cut.mp4", fast, 0.5)
    clips["cut_mkv"] = first_part(folder / "cut.mkv", clips["pyramid"], 0.5)
    clips["flipped"] = flipped(folder / "flipped.mp4", fast)
    options = {**x264(bf="3"), "x264-params": "open-gop=1"}
    clips["open_mp4"] = encode(folder / "open.mp4", "libx264", options=options, gop=60)
    clips["flipped_open"] = flipped(folder / "flipped_open.mp4", clips["open_mp4"])
    clips["hole"] = holed(folder / "hole.mp4", fast)
    return clips


def make_no_videos(folder: Path) -> dict[str, Path]:
    """Make everything that is no video; its path by its name."""
    (folder / "text.mp4").write_text("This is not a video.\n" * 50)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mkv").write_bytes(np.random.default_rng(0).integers(0, 256, 20_000).astype(np.uint8).tobytes())
    (folder / "no_images").mkdir()
    (folder / "no_images" / "readme.txt").write_text("no images here")
    return {
        "text": folder / "text.mp4",
        "empty": folder / "empty.mp4",
        "noise": folder / "noise.mkv",
        "absent": folder / "absent.mp4",
        "no_images": folder / "no_images",
        "sound": sound_only(folder / "sound.wav"),
        "cover": cover_art(folder / "cover.m4a"),
    }


@lru_cache(maxsize=1)
def session_clips(folder: Path) -> dict[str, Path]:
    """All clips, made once per test session, whichever of its processes is first; paths by name."""
    with FileLock(folder.with_suffix(".lock")):
        listed = folder.with_suffix(".json")
        if listed.is_file():
            return {name: Path(path) for name, path in json.loads(listed.read_text()).items()}
        folder.mkdir()
        clips = {**make_clips(folder), **make_no_videos(folder)}
        listed.write_text(json.dumps({name: str(path) for name, path in clips.items()}))
    return clips


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for name, made in {**make_clips(target), **make_no_videos(target)}.items():
        print(f"{name:12s} {made}")

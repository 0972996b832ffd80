"""Makes the videos that the latency benchmarks decode, and keeps them between runs.

The content is made up: camera moves over textured scenes, a few moving objects, film grain and a
cut every ten seconds, encoded as people encode (x264 and x265 presets, CRF, B-frames). Long videos
are one minute repeated by copying packets with later time stamps, so that an hour takes seconds to
make and is, to a decoder, an hour of video.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from hybrid.frames.container.open import open_container

__all__ = ["CLIPS", "GOP_30", "GOP_30_LAST", "GOP_250", "HEVC", "Clip", "make_clip", "repeat"]

RGB = npt.NDArray[np.uint8]
SCENE_FRAMES = 300


@dataclass(frozen=True, slots=True)
class Clip:
    """How one clip is encoded.

    Attributes:
        name: of the file.
        codec: encoder.
        options: of the encoder.
        gop: frames from one key frame to the next.
        width, height: in pixels.
        fps: frames per second.
    """

    name: str
    codec: str
    options: dict[str, str]
    gop: int
    width: int = 1280
    height: int = 720
    fps: Fraction = Fraction(30)


_X264 = {"preset": "medium", "crf": "23"}
GOP_250 = Clip("720p-gop250.mp4", "libx264", _X264, 250)
GOP_30 = Clip("720p-gop30.mp4", "libx264", _X264, 30)
# At 29.97 frames per second the sampled frames are the last ones of their groups of 30: the worst case.
GOP_30_LAST = Clip("720p-gop30-29.97.mp4", "libx264", _X264, 30, fps=Fraction(30000, 1001))
HEVC = Clip("720p-hevc.mp4", "libx265", {"preset": "fast", "crf": "26", "x265-params": "log-level=none"}, 250)
CLIPS = (GOP_250, GOP_30, GOP_30_LAST, HEVC)


def make_clip(clip: Clip, folder: Path, *, seconds: int) -> Path:
    """Encode a clip, unless it is there already."""
    path = folder / f"{seconds}s-{clip.name}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.mp4")
    with av.open(str(unfinished), "w") as out:
        stream = out.add_stream(clip.codec, rate=clip.fps, options=dict(clip.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.codec_context.gop_size = clip.gop
        for image in _scenes(clip.width, clip.height, int(seconds * clip.fps)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    unfinished.rename(path)
    return path


def repeat(source: Path, *, times: int) -> Path:
    """A file in which the source plays ``times`` times, made without encoding."""
    path = source.with_name(f"{times}x-{source.name}")
    if path.exists():
        return path
    unfinished = path.with_suffix(".part.mp4")
    with av.open(str(unfinished), "w") as out:
        target = None
        for turn in range(times):
            with open_container(source) as container:
                stream = container.streams.video[0]
                if target is None:
                    target = out.add_stream_from_template(stream)
                length = stream.duration or 0
                for packet in container.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts += turn * length
                    packet.dts += turn * length
                    packet.stream = target
                    out.mux(packet)
    unfinished.rename(path)
    return path


def _scenes(width: int, height: int, frames: int) -> Iterator[RGB]:
    random = np.random.default_rng(7)
    grain = random.normal(0, 2.5, (height + 64, width + 64, 1)).astype(np.int8)
    for number in range(frames):
        scene, at = divmod(number, SCENE_FRAMES)
        if at == 0:
            world = _texture(height + 400, width + 400, np.random.default_rng(scene))
        image = _view(world, width, height, at, scene)
        dy, dx = random.integers(0, 64, 2)
        grained = image.astype(np.int16) + grain[dy : dy + height, dx : dx + width]
        yield np.clip(grained, 0, 255).astype(np.uint8)


def _texture(height: int, width: int, random: np.random.Generator) -> RGB:
    """Blobs of colour at six scales."""
    total = np.zeros((height, width, 3))
    for scale in (4, 8, 16, 40, 100, 240):
        coarse = random.normal(0, 6 + scale / 8, (height // scale + 2, width // scale + 2, 3))
        rows, columns = np.arange(height) // scale, np.arange(width) // scale
        total += coarse[rows][:, columns]
    texture: RGB = np.clip(total + 120, 0, 255).astype(np.uint8)
    return texture


def _view(world: RGB, width: int, height: int, at: int, scene: int) -> RGB:
    """The camera's view: it moves in every other scene; three objects move in all."""
    pan = at if scene % 2 == 0 else at // 10
    y, x = int(200 + 150 * np.sin(pan / 90 + scene)), int(200 + 190 * np.sin(pan / 70))
    image: RGB = world[y : y + height, x : x + width].copy()
    for which in range(3):
        size = height // (4 + which)
        top = int((height - size) * (0.5 + 0.5 * np.sin(at / (40 + 9 * which) + which)))
        left = int((width - size) * (0.5 + 0.5 * np.cos(at / (55 - 8 * which) + scene)))
        image[top : top + size, left : left + size] = world[-size:, -size:] // (which + 1) + 30 * which
    return image

"""Many videos out of a few: stretches of real films, each starting elsewhere, so that each is another video.

``python -m bench.robustness.small_videos SOURCES FOLDER COUNT [SECONDS]``

The films' pictures are encoded anew (H.264, their own size and rate), because copied packets could only
start at key frames. A film that is shorter than the wanted stretch is played again from its beginning.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

from hybrid.frames.container.open import open_container

__all__ = ["write_small_videos"]

_LEAST_SECONDS = 3.0
_MOST_RATE = Fraction(60)


def write_small_videos(sources: Sequence[Path], folder: Path, count: int, *, seconds: float = 4.0) -> list[Path]:
    """Write ``count`` videos of ``seconds`` (and up to as much again) into a folder; those that are there stay.

    The same arguments give the same stretches. Sources that are shorter than three seconds are passed over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    films = [film for film in sorted(sources) if _is_long_enough(film)]
    made = []
    for number in range(count):
        film = films[number % len(films)]
        path = folder / f"{number:03d}-{film.stem}.mp4"
        if not path.exists():
            # Another length and another beginning each time.
            _write(film, path, skip=7 * (number // len(films)), seconds=seconds * (1 + (number * 0.37) % 1))
        made.append(path)
    return made


def _is_long_enough(film: Path) -> bool:
    with open_container(film) as container:
        return bool(container.streams.video) and (container.duration or 0) >= _LEAST_SECONDS * av.time_base


def _write(film: Path, path: Path, *, skip: int, seconds: float) -> None:
    unfinished = path.with_suffix(".part.mp4")
    with open_container(film) as container:
        source = container.streams.video[0]
        rate = min(source.average_rate or Fraction(25), _MOST_RATE).limit_denominator(1001)
        size = (source.codec_context.width // 2 * 2, source.codec_context.height // 2 * 2)
    with av.open(str(unfinished), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(islice(_pictures(film), skip, skip + max(1, int(seconds * rate)))):
            picture = frame.reformat(*size, format="yuv420p")
            picture.pts, picture.time_base = number, 1 / rate
            picture.pict_type = 0
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    unfinished.rename(path)


def _pictures(film: Path) -> Iterator[av.VideoFrame]:
    """The pictures of a film, over and over; packets that cannot be decoded are passed over."""
    while True:
        with open_container(film) as container:
            for packet in container.demux(container.streams.video[0]):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue
                yield from (frame for frame in frames if isinstance(frame, av.VideoFrame))


if __name__ == "__main__":
    originals = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_file())
    length = float(sys.argv[4]) if len(sys.argv) > 4 else 4.0
    for written in write_small_videos(originals, Path(sys.argv[2]), int(sys.argv[3]), seconds=length):
        print(written)

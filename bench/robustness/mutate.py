"""Bad videos made from good ones, each a function of the source and a seed.

``python -m bench.robustness.mutate SOURCE FOLDER COUNT``

What real archives hold: files cut by a lost connection, bits flipped by a bad disk, headers that were
never written, files without a video stream, text under a video's name, nothing at all.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["MUTATIONS", "mutate_videos"]

Mutation = Callable[[bytes, random.Random], bytes]


def _cut(data: bytes, dice: random.Random) -> bytes:
    """The beginning only."""
    return data[: dice.randrange(1, len(data))]


def _cut_front(data: bytes, dice: random.Random) -> bytes:
    """The end only."""
    return data[dice.randrange(1, len(data)) :]


def _flip_bits(data: bytes, dice: random.Random) -> bytes:
    """Single bits wrong, from one to one in a thousand bytes."""
    changed = bytearray(data)
    for _ in range(dice.choice([1, 5, 50, max(1, len(data) // 1000)])):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _flip_header(data: bytes, dice: random.Random) -> bytes:
    """Bits wrong where the container describes itself: in its first and last bytes."""
    changed = bytearray(data)
    edge = min(2000, len(data) // 2)
    for _ in range(dice.choice([1, 10, 100])):
        offset = dice.randrange(edge)
        changed[offset if dice.random() < 0.5 else len(data) - 1 - offset] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _zero_header(data: bytes, dice: random.Random) -> bytes:
    """The first bytes never written."""
    size = min(len(data), dice.choice([16, 64, 1024, 65536]))
    return bytes(size) + data[size:]


def _zero_hole(data: bytes, dice: random.Random) -> bytes:
    """A stretch never written."""
    start, size = dice.randrange(len(data)), dice.randrange(1, max(2, len(data) // 4))
    return data[:start] + bytes(min(size, len(data) - start)) + data[start + size :]


def _shuffled(data: bytes, dice: random.Random) -> bytes:
    """Blocks in another order."""
    blocks = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    dice.shuffle(blocks)
    return b"".join(blocks)


def _doubled(data: bytes, dice: random.Random) -> bytes:
    """A second video, or a part of it, behind the first."""
    return data + data[: dice.randrange(1, len(data) + 1)]


def _noise(data: bytes, dice: random.Random) -> bytes:
    """No video at all."""
    return dice.randbytes(min(len(data), 50_000))


def _text(data: bytes, dice: random.Random) -> bytes:
    """Text under a video's name."""
    return b"This is not a video.\n" * dice.randrange(1, 2000)


def _empty(data: bytes, dice: random.Random) -> bytes:
    """Nothing."""
    return b""


def _no_video_stream(data: bytes, dice: random.Random) -> bytes:
    """Sound only: silence as a WAVE file."""
    count = dice.randrange(1, 50_000)
    header = b"RIFF" + (36 + count).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    header += (1).to_bytes(2, "little") * 2 + (8000).to_bytes(4, "little") * 2
    header += (1).to_bytes(2, "little") + (8).to_bytes(2, "little")
    return header + b"data" + count.to_bytes(4, "little") + b"\x80" * count


MUTATIONS: dict[str, Mutation] = {
    "cut": _cut,
    "cut_front": _cut_front,
    "flip_bits": _flip_bits,
    "flip_header": _flip_header,
    "zero_header": _zero_header,
    "zero_hole": _zero_hole,
    "shuffled": _shuffled,
    "doubled": _doubled,
    "noise": _noise,
    "text": _text,
    "empty": _empty,
    "no_video_stream": _no_video_stream,
}
"""Ways to spoil a file, by name."""


def mutate_videos(sources: Sequence[Path], folder: Path, count: int, *, seed: int = 0) -> list[Path]:
    """Write ``count`` bad videos into a folder: each mutation in turn, of each source in turn.

    The names tell what was done to which source. The same arguments give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        name = list(MUTATIONS)[number % len(MUTATIONS)]
        source = sources[number // len(MUTATIONS) % len(sources)]
        data = MUTATIONS[name](source.read_bytes(), random.Random(f"{seed} {number}"))
        path = folder / f"{number:04d}-{name}-{source.name}"
        path.write_bytes(data)
        made.append(path)
    return made


if __name__ == "__main__":
    start, target, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    originals = sorted(path for path in start.iterdir() if path.is_file()) if start.is_dir() else [start]
    for written in mutate_videos(originals, target, count):
        print(written)

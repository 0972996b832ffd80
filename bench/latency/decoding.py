"""One way to sample a video at one frame per second, measured in a process of its own.

``python -m bench.latency.decoding METHOD VIDEO THREADS CONSUMER_SECONDS`` prints one JSON line.
Methods: ``exact`` and ``keyframes`` (ours), ``aks`` (decord as the AKS code uses it), ``pyav_full``
(PyAV decoding every frame), ``ffmpeg`` (the ffmpeg program decoding to null; nothing is sampled).
The consumer sleeps for each frame, as long as a model call would take: its time is wall time only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.latency.search_probe import first_of
from bench.memory import most_resident_mb, resident_mb

__all__ = ["METHODS", "measure"]


# Modules move from version to version, and ``two_versions`` runs this file over earlier ones.
_OPEN_SOURCE = ("hybrid.frames.registry:open_source", "hybrid.frames.source:open_source")
_DECODED_AHEAD = (
    "hybrid.engine.frames.decode_ahead:prefetched_frames",
    "hybrid.engine.index.decoding:decoded_ahead",
    "hybrid.engine.decoding:decoded_ahead",
)


def _ours(policy: str) -> Callable[[str, int], Iterator[int]]:
    def sample(video: str, threads: int) -> Iterator[int]:
        from hybrid.values import Sampling

        open_source, decoded_ahead = first_of(*_OPEN_SOURCE), first_of(*_DECODED_AHEAD)
        # As the engine reads: decoding goes on, a bounded number of bytes ahead, while the model runs.
        with open_source(video, Sampling(1.0, policy), threads=threads) as source:  # type: ignore[arg-type]
            with decoded_ahead(source.read()) as batches:
                for batch in batches:
                    yield len(batch)

    return sample


def _aks(video: str, threads: int) -> Iterator[int]:
    """One reader, one frame at a time, every ``int(fps)``-th frame, as the AKS feature extraction does it."""
    import decord

    reader = decord.VideoReader(video, num_threads=threads)
    step = int(reader.get_avg_fps())
    for number in range(0, len(reader), step):
        reader[number].asnumpy()
        yield 1


def _pyav_full(video: str, threads: int) -> Iterator[int]:
    """Every frame decoded; the last one at or before each second converted to RGB."""
    import av

    from hybrid.frames.container.open import open_container

    with open_container(video) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        held: av.VideoFrame | None = None
        second = 0
        for frame in container.decode(stream):
            while held is not None and frame.time is not None and frame.time > second:
                held.to_ndarray(format="rgb24")
                second += 1
                yield 1
            held = frame


def _ffmpeg(video: str, threads: int) -> Iterator[int]:
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    command = [program, "-v", "error", "-threads", str(threads), "-i", video, "-map", "0:v:0", "-f", "null", "-"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    yield 0


METHODS: dict[str, Callable[[str, int], Iterator[int]]] = {
    "exact": _ours("exact"),
    "keyframes": _ours("keyframes"),
    "aks": _aks,
    "pyav_full": _pyav_full,
    "ffmpeg": _ffmpeg,
}


def measure(method: str, video: str, *, threads: int, consumer_seconds: float) -> dict[str, Any]:
    """Run one method in this process: wall and CPU seconds, frames, and peak memory above the start."""
    _import_libraries()
    before_mb = resident_mb()
    cpu, wall = _cpu_seconds(), time.perf_counter()
    frames = 0
    # Looking costs time itself, so not too often.
    with most_resident_mb(every_seconds=0.25) as most:
        for count in METHODS[method](video, threads):
            frames += count
            if consumer_seconds:
                time.sleep(consumer_seconds * count)
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    return {"wall_seconds": wall, "cpu_seconds": cpu, "frames": frames, "above_start_mb": most[0] - before_mb}


def _import_libraries() -> None:
    """Imports are no part of the measurement."""
    first_of(*_OPEN_SOURCE), first_of(*_DECODED_AHEAD)
    for name in ("av", "decord", "imageio_ffmpeg"):
        importlib.import_module(name)
    for name in ("hybrid.frames.decoders.pyav", "hybrid.frames.pyav"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)


def _cpu_seconds() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    name, path, thread_count, consumer = sys.argv[1:]
    print(json.dumps(measure(name, path, threads=int(thread_count), consumer_seconds=float(consumer))))

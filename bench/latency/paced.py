"""Stages that take a stated time and no processor: how well the pipeline overlaps, whatever else the machine does.

Real frames of real videos, in the batches in which the decoder gives them, each after as long as they are to
take; an encoder that takes its batches as CLIP does and waits as long as they are to take, as one on another
device does. There is one decoder and one device: where several videos are under way, each stage serves one
at a time. Hashing, opening and writing are what they always are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.clip.open_clip import CPU_BATCH
from hybrid.frames.interface import FrameSource
from hybrid.frames.registry import open_source
from hybrid.values import ByteArray, Float32Array, FrameBatch, Sampling

__all__ = ["PacedEncoder", "PacedSource", "recorded"]

_DIMENSION = 64


class PacedEncoder:
    """Takes ``seconds`` a frame, without a processor; its vectors tell frames apart and mean nothing."""

    device = "paced"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._device = threading.Lock()
        self.identity: Mapping[str, Any] = {"model": "paced", "precision": "float32"}

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        """Unit vectors, a batch at a time: float32 [up to 32, 64]."""
        waiting = iter(frames)
        while batch := list(islice(waiting, CPU_BATCH)):
            with self._device:
                time.sleep(self.seconds * len(batch))
            means = np.array([[frame.mean(), frame[::8].mean()] for frame in batch], dtype=np.float32)
            vectors = np.ones((len(batch), _DIMENSION), dtype=np.float32)
            vectors[:, :2] += means
            yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class PacedSource(FrameSource):
    """Gives what another source gave before, ``seconds`` a frame later; ``decoder`` is shared with other sources."""

    def __init__(self, source: FrameSource, seconds: float, decoder: threading.Lock) -> None:
        self.info, self.sampling = source.info, source.sampling
        self.seconds = seconds
        self._decoder = decoder
        self._batches = list(source.read())
        self._report = source.report()
        self.frames = sum(len(batch) for batch in self._batches)

    def read(self, *, ordinals: Sequence[int] | None = None) -> Iterator[FrameBatch]:
        assert ordinals is None
        for batch in self._batches:
            with self._decoder:
                time.sleep(self.seconds * len(batch))
            yield batch


def recorded(videos: Sequence[Path], seconds: float) -> dict[Path, PacedSource]:
    """A paced source for each video, by path."""
    found, decoder = {}, threading.Lock()
    for video in videos:
        with open_source(video, Sampling()) as source:
            found[video] = PacedSource(source, seconds, decoder)
    return found

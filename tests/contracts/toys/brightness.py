"""An encoder that knows brightness alone: ``brightness:LEVELS``; a question is "dark" or bright."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hybrid.clip.interface import EncoderKind, TextVector
from hybrid.values import ByteArray, Float32Array, check_questions


class Brightness:
    """See the module's text."""

    device = "cpu"

    def __init__(self, levels: str) -> None:
        self.name = f"brightness:{levels}"
        self.identity: Mapping[str, str] = {"encoder": "brightness", "model": levels, "precision": "float32"}
        self._levels = int(levels)

    def encode_frames(self, frames: Iterable[ByteArray]) -> Iterator[Float32Array]:
        """The angle on the unit circle grows with the brightness."""
        for frame in frames:
            yield self._vector(float(frame.mean()))[None]

    def encode_text(self, text: str) -> TextVector:
        """As a black or a white frame."""
        check_questions([text])
        return TextVector(self._vector(0.0 if "dark" in text else 255.0), tokens=1, context_length=77)

    def _vector(self, mean: float) -> Float32Array:
        angle = np.round(mean / 255 * self._levels) / self._levels * np.pi / 2
        return np.array([np.cos(angle), np.sin(angle)] + [0.0] * 6, dtype=np.float32)


def load(name: str, *, device: str, dtype: str, batch_size: int | None) -> Brightness:
    """See :class:`hybrid.clip.interface.LoadEncoder`."""
    return Brightness(name)


ENCODER = EncoderKind("brightness", load, lambda name: {"model": name})

"""Pictures of annotated evidence, which need not lie on the grid that an index samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hybrid.errors import FrameDecodeError
from hybrid.frames.registry import open_source
from hybrid.values import ByteArray, Sampling

__all__ = ["frames_at"]

RATE: Final = 240.0
"""Places a second at which a frame is looked for: more than one in the time for which any frame is shown."""
ROUNDING: Final = 1e-6


def frames_at(video: Path, seconds: Sequence[float]) -> list[ByteArray]:
    """The frames that are shown at some moments, each once: uint8 [H, W, 3] RGB, in time order.

    Args:
        video: the file.
        seconds: moments; one at which a frame begins gives this frame.

    Raises:
        VideoError: the file cannot be opened, or a frame of it cannot be decoded.
    """
    ordinals = sorted({max(0, math.ceil(second * RATE - ROUNDING)) for second in seconds})
    with open_source(video, Sampling(rate=RATE)) as source:
        found = [rgb for batch in source.read(ordinals=ordinals) for rgb in batch.rgb]
    if len(found) < len(ordinals):
        raise FrameDecodeError(f"{video}: {len(found)} of {len(ordinals)} frames of the evidence can be decoded")
    return found

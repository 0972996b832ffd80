"""From decoded frames to the input of the vision encoder, pixel for pixel as in the published code.

1. A frame with a side above 490 pixels is shrunk until both fit (sides rounded down).
2. It is scaled so that its longer side has 490 pixels and its shorter one at least 336: smaller
   frames grow, and a wide frame is stretched (16:9 becomes 490x336, not 490x275).
3. It is padded with black, on the right and below, to 490x490.
4. Bytes become -1 to 1.

Both resizings are Pillow's bicubic. The published code makes a mask of the padding and does not hand it to
the model, so there is none here: the model looks at the padding too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from hybrid.fine.aria.convert.config import FRAME_SIDE
from hybrid.values import ByteArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["LEAST_SIDE", "image_identity", "normalise", "prepare_frame", "scaled_size", "shrunk_size"]

LEAST_SIDE = 336
_RULE = "shrink 490, least side 336, black to 490, no mask"


def image_identity() -> dict[str, str]:
    """What decides the features of a frame besides the weights and their precision; Aria takes images only."""
    return {"mode": "image", "rule": _RULE}


def shrunk_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of a frame after the first step."""
    if width <= FRAME_SIDE and height <= FRAME_SIDE:
        return width, height
    ratio = min(FRAME_SIDE / width, FRAME_SIDE / height)
    # The published code fails on frames so narrow that a side rounds down to nothing.
    return max(1, int(width * ratio)), max(1, int(height * ratio))


def scaled_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of a frame after the second step."""
    scale = FRAME_SIDE / max(width, height)
    if width >= height:
        return FRAME_SIDE, max(int(height * scale), LEAST_SIDE)
    return max(int(width * scale), LEAST_SIDE), FRAME_SIDE


def prepare_frame(frame: ByteArray) -> ByteArray:
    """Steps 1 to 3: uint8 [H, W, 3] -> uint8 [490, 490, 3]; a prepared frame stays as it is."""
    if frame.shape == (FRAME_SIDE, FRAME_SIDE, 3):
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    for size in (shrunk_size(*image.size), scaled_size(*shrunk_size(*image.size))):
        if image.size != size:
            image = image.resize(size, resample=Image.Resampling.BICUBIC)
    padded: ByteArray = np.zeros((FRAME_SIDE, FRAME_SIDE, 3), dtype=np.uint8)
    padded[: image.height, : image.width] = np.asarray(image)
    return padded


def normalise(frames: Sequence[ByteArray], *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Step 4: prepared frames -> [N, 3, 490, 490] from -1 to 1; computed in float32, then rounded to ``dtype``."""
    import torch

    levels = torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2)
    return levels.to(torch.float32).div(255).sub(0.5).div(0.5).to(dtype).contiguous()

"""The features of a window: the input of the language model, independent of encoder and storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from hybrid.errors import InputError
from hybrid.fine.prompt import PromptMode
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FrameFeatures", "check_frames", "content_key"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameFeatures:
    """The input of the language model for a window.

    Attributes:
        items: per image (or per moment of a video item) its features, [tokens, hidden]. They may lie
            on any device and in any floating dtype: a scorer moves them when it needs them, and it
            does not need them while it holds the window's prefix.
        grids: per entry of ``items``, (rows, columns) of its tokens.
        frame_count: how many frames went in; in video mode more than there are items.
        mode: of the prompt they were made for.
        key: identifies the content: two windows with the same key hold the same features in the same
            order, and a scorer computes what they have in common once. See :func:`content_key`.
        seconds: time by part.
    """

    items: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    frame_count: int
    mode: PromptMode
    key: str
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.items or len(self.items) != len(self.grids):
            raise InputError(
                f"features have {len(self.items)} items and {len(self.grids)} grids; they need one grid per item, "
                "and at least one item"
            )
        if not self.key:
            raise InputError("features need a key; content_key() makes one of their values")


def check_frames(frames: Sequence[ByteArray]) -> None:
    """Refuse frames that are not RGB.

    Raises:
        InputError: there are no frames, or one is not uint8 [H, W, 3] with H, W > 0.
    """
    if not len(frames):
        raise InputError("there are no frames to score; a window needs at least one")
    for position, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise InputError(
                f"frame {position} is {frame.dtype} {list(frame.shape)}; it must be uint8 [height, width, 3]"
            )


def content_key(items: Sequence[Tensor], grids: Sequence[tuple[int, int]], *, mode: PromptMode) -> str:
    """A key that follows from the values themselves: 32 hexadecimal digits.

    Costs a pass over the bytes (5 ms for the 16 MiB of a usual window), and a copy to host memory
    where they lie on a device. A store that knows its video, its checkpoint and its rows makes a
    cheaper key of those.
    """
    import torch

    digest = blake3(f"{mode}:{list(grids)}".encode())
    for item in items:
        digest.update(f"{item.dtype}:{tuple(item.shape)}".encode())
        values: Any = item.detach().contiguous().cpu().view(torch.uint8).numpy()
        digest.update(values)
    return digest.hexdigest(16)

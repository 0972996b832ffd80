"""GenS on Aria: scores the frames of a window with a loaded checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.errors import OutOfMemoryError
from hybrid.fine.aria.checkpoint import AriaCheckpoint
from hybrid.fine.aria.frames import AriaFrames
from hybrid.fine.aria.writer import AriaWriter
from hybrid.fine.features import FrameFeatures
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.scorer import TokenScorer
from hybrid.values import ByteArray

__all__ = ["AriaScorer"]


class AriaScorer(TokenScorer):
    """A :class:`hybrid.fine.interface.FeatureModel` on a converted checkpoint of GenS on Aria.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.

    Attributes:
        writer: writes replies.
    """

    def __init__(self, checkpoint: AriaCheckpoint, spec: PromptSpec) -> None:
        self._checkpoint = checkpoint
        self.writer = AriaWriter(checkpoint, spec)
        super().__init__(
            checkpoint.name,
            checkpoint.identity,
            encoder=AriaFrames(checkpoint, spec.mode),
            writer=self.writer,
            tokenizer=checkpoint.tokenizer,
            spec=spec,
        )

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        """See :meth:`hybrid.fine.interface.FeatureModel.encode_frames`."""
        try:
            return super().encode_frames(frames)
        except OutOfMemoryError:
            # The window that is kept for the next question may be what takes the room.
            if not self.writer.holds_window:
                raise
            self.writer.forget()
            return super().encode_frames(frames)

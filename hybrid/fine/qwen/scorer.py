"""GenS on Qwen2.5-VL: scores the frames of a window with a loaded checkpoint.

The work is cut where results can be kept: :mod:`hybrid.fine.qwen.frames` depends on the frames
alone, :mod:`hybrid.fine.qwen.writer` adds questions. The text part runs in :mod:`hybrid.fine.decoding`
with positions in closed form, so no call leaves state in the model, and one scorer may serve several
threads.
"""

from __future__ import annotations

from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.decoding.prefix_cache import PrefixCache
from hybrid.fine.features import FrameFeatures
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.qwen.checkpoint import QwenCheckpoint
from hybrid.fine.qwen.frames import QwenFrames
from hybrid.fine.qwen.writer import QwenWriter
from hybrid.fine.scorer import TokenScorer

__all__ = ["FrameFeatures", "QwenCheckpoint", "QwenScorer"]


class QwenScorer(TokenScorer):
    """A :class:`hybrid.fine.interface.FeatureModel` on a Qwen2.5-VL checkpoint.

    Args:
        checkpoint: what was loaded.
        spec: the prompt.
        options: how replies are written, and how much memory may be kept.

    Attributes:
        options: how replies are written.
        writer: writes them.

    Raises:
        ModelLoadError, InputError: see :class:`hybrid.fine.qwen.writer.QwenWriter`.
    """

    def __init__(self, checkpoint: QwenCheckpoint, spec: PromptSpec, options: LoopOptions | None = None) -> None:
        self._checkpoint = checkpoint
        self.options = options or LoopOptions()
        self.writer = QwenWriter(checkpoint, spec, self.options)
        visual = checkpoint.model.model.visual
        super().__init__(
            checkpoint.name,
            checkpoint.identity,
            encoder=QwenFrames(visual, rule=checkpoint.rule, spec=spec, identity=checkpoint.identity),
            writer=self.writer,
            tokenizer=checkpoint.tokenizer,
            spec=spec,
        )

    @property
    def prefix_cache(self) -> PrefixCache:
        """What is kept of windows, with its counts; ``clear()`` gives the memory back."""
        return self.writer.scheduler.cache

"""GenS on Qwen2.5-VL: scores the frames of a window with a loaded checkpoint.

The work is cut where results can be kept: :mod:`hybrid.fine.qwen.frames` depends on the frames
alone, :mod:`hybrid.fine.qwen.writer` adds questions. The text part runs in :mod:`hybrid.fine.decoding`
with positions in closed form, so no call leaves state in the model, and one scorer may serve several
threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.decoding.prefix_cache import PrefixCache
from hybrid.fine.features import FrameFeatures
from hybrid.fine.prompt import PromptSpec
from hybrid.fine.qwen.frames import QwenFrames
from hybrid.fine.qwen.preprocess import PatchRule
from hybrid.fine.qwen.two_parts import TwoPartScorer
from hybrid.fine.qwen.writer import QwenWriter
from hybrid.fine.tokens import PromptTokens

__all__ = ["FrameFeatures", "QwenCheckpoint", "QwenScorer"]


@dataclass(frozen=True, slots=True, eq=False)
class QwenCheckpoint:
    """A loaded checkpoint and all that decides its replies; made by :func:`hybrid.fine.load.load_scorer`.

    Attributes:
        name: as the caller named it: a hub name or a folder.
        model: transformers' ``Qwen2_5_VLForConditionalGeneration``, in evaluation mode.
        tokenizer: its fast tokenizer.
        tokens: makes token ids of the prompt.
        rule: its preprocessing.
        end_ids: tokens that end a reply.
        repetition_penalty: of its generation settings; 1.0 for none.
        identity: see :class:`hybrid.fine.interface.FrameScorer`.
    """

    name: str
    model: Any
    tokenizer: Any
    tokens: PromptTokens
    rule: PatchRule
    end_ids: frozenset[int]
    repetition_penalty: float
    identity: Mapping[str, str]


class QwenScorer(TwoPartScorer):
    """A :class:`hybrid.fine.interface.FeatureScorer` on a Qwen2.5-VL checkpoint.

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
            frames=QwenFrames(visual, rule=checkpoint.rule, spec=spec, identity=checkpoint.identity),
            writer=self.writer,
            tokenizer=checkpoint.tokenizer,
            spec=spec,
        )

    @property
    def prefix_cache(self) -> PrefixCache:
        """What is kept of windows, with its counts; ``clear()`` gives the memory back."""
        return self.writer.runner.cache

"""The interface of a fine stage model: a window of frames and a question in, scores out.

A scorer speaks in positions of the window it was shown. It knows nothing of videos, times,
indexes or of how the window came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hybrid.values import ByteArray

__all__ = ["FrameScorer", "ReplyStatus", "WindowScores"]

ReplyStatus = Literal["ok", "salvaged", "empty"]


@dataclass(frozen=True, slots=True)
class WindowScores:
    """What a model said about one window.

    Attributes:
        scores: position -> 1..5; positions that it did not name are absent.
        status: ``ok``: the reply was the JSON that was asked for; ``salvaged``: something had to be
            repaired or dropped; ``empty``: nothing usable in it.
        text: the reply, word for word.
        notes: what was repaired or dropped, one line each.
        prompt_tokens, new_tokens: sizes of prompt and reply in tokens.
        seconds: time by part, for instance ``preprocess``, ``vision``, ``prefill``, ``decode``.
    """

    scores: Mapping[int, int]
    status: ReplyStatus
    text: str
    notes: tuple[str, ...] = ()
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


class FrameScorer(Protocol):
    """A model that scores the frames of a window."""

    @property
    def name(self) -> str:
        """What was loaded: a hub name or a folder."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that decides a reply: checkpoint, weight hash, prompt hash, dtype, versions."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def prepare(self, frame: ByteArray) -> ByteArray:
        """The frame in the size that the model looks at: uint8 [h, w, 3].

        A caller that holds a window of large frames prepares each as it is decoded; preparing a
        prepared frame changes nothing.
        """
        ...

    def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
        """Score the frames of one window.

        Args:
            frames: uint8 [H, W, 3] RGB each, in time order; position = place in this sequence.
            question: plain text.

        Raises:
            InputError: no frames, or an empty question.
            OutOfMemoryError: the window is too large for the device.
        """
        ...

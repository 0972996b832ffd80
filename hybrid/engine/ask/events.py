"""What happens while questions are answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hybrid.answers import Answer, Span

__all__ = ["Answered", "AskEvent", "SpansChanged"]


@dataclass(frozen=True, slots=True)
class SpansChanged:
    """What is known of an answer's spans while GenS still writes.

    Attributes:
        question: index of the question among those that are asked together.
        spans: of all entries that are complete; they only grow and join, except where a device runs out of memory,
            which starts a window again.
        finished: whether GenS has finished with this question; its :class:`Answered` follows.
    """

    question: int
    spans: tuple[Span, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer; the last event of its question.

    Attributes:
        question: index of the question among those that are asked together.
        answer: the answer.
    """

    question: int
    answer: Answer


AskEvent: TypeAlias = SpansChanged | Answered

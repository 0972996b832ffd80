"""Between a fine-stage model and its language model: windows and questions go in, tokens come out.

A :class:`~hybrid.fine.scorer.TokenScorer` has two parts. One turns frames into features; the other, a
:class:`Writer`, turns features and questions into replies. Families of checkpoints differ in these two.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from hybrid.fine.features import FrameFeatures

__all__ = ["Reply", "ReplyFailed", "ReplyWritten", "TokensWritten", "Writer", "Written", "replies_of"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as tokens.

    Attributes:
        ids: the tokens; the last one is an end token (in a given form: a closing one), unless the reply was cut.
        cut: whether the limit came first.
        forced: whether the limit led the reply to its end, in a given form.
        prompt_tokens: tokens of the prompt: of the window and of the question.
        reused_tokens: those of them whose keys and values were there already.
        seconds: by part, of this reply; parts that several replies took together are shared out.
    """

    ids: tuple[int, ...]
    cut: bool
    forced: bool
    prompt_tokens: int
    reused_tokens: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TokensWritten:
    """All tokens so far of the reply to pair ``index``; the list may grow later."""

    index: int
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class ReplyWritten:
    """The reply to pair ``index``."""

    index: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """Why pair ``index`` has no reply."""

    index: int
    error: Exception


Written: TypeAlias = TokensWritten | ReplyWritten | ReplyFailed


class Writer(Protocol):
    """A language model that writes replies about windows."""

    @property
    def device(self) -> str:
        """The device, or several with commas."""

    def check(self, question: str) -> None:
        """Refuse a question before any work is done.

        Raises:
            InputError: the question is empty, or cannot be put to this writer.
        """

    def write(self, features: Sequence[FrameFeatures], questions: Sequence[str]) -> Generator[Written, None, None]:
        """Write the replies to pairs of a window and a question; see :meth:`hybrid.fine.interface.FineModel.read`.

        Args:
            features: one window per pair, in the mode of the prompt.
            questions: plain text, one per pair.

        Raises:
            InputError: a pair is not legal; raised before any work is done.
        """


def replies_of(events: Iterable[Written]) -> list[Reply]:
    """The replies among events, in the order of their pairs.

    Raises:
        Exception: the error of the first pair that failed.
    """
    replies: dict[int, Reply] = {}
    for event in events:
        if isinstance(event, ReplyFailed):
            raise event.error
        if isinstance(event, ReplyWritten):
            replies[event.index] = event.reply
    return [reply for _, reply in sorted(replies.items())]

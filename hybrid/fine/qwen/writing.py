"""Between a scorer and what writes its replies: a window and a question go in, tokens come out.

A scorer has two parts (:mod:`hybrid.fine.qwen.two_parts`). One turns frames into features; the other, a
:class:`Writer`, turns features and questions into replies. Writers differ in where the language
model runs, so a scorer can have its features from one place and its replies from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hybrid.fine.features import FrameFeatures

__all__ = ["OnFinished", "OnTokens", "Reply", "Writer"]

OnTokens = Callable[[int, Sequence[int], bool], None]
"""(place of the request, all tokens of its reply so far, whether it is finished)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was written.

    Attributes:
        ids: the tokens; the last one is an end token (in a given form: a closing one), unless the
            reply was cut.
        cut: whether the limit came first.
        forced: whether the reply was led to its end by the limit, in a given form.
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


OnFinished = Callable[[int, Reply], None]
"""(place of the request, its reply)."""


class Writer(Protocol):
    """A language model that writes replies about windows."""

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    def check(self, question: str) -> None:
        """Refuse what cannot be asked, before any work is done.

        Raises:
            InputError: the question is empty, or cannot be put to this writer.
        """
        ...

    def write(
        self,
        features: Sequence[FrameFeatures],
        questions: Sequence[str],
        *,
        on_tokens: OnTokens | None = None,
        on_finished: OnFinished | None = None,
    ) -> list[Reply]:
        """The replies to pairs of a window and a question, in their order.

        Args:
            features: one window per pair, in the mode of the prompt.
            questions: plain text, one per pair.
            on_tokens: is told of tokens as they come, in the thread of the caller; at least once a
                reply, when it is finished.
            on_finished: is given each reply as soon as it is finished, in whatever order they are, after
                ``on_tokens`` was told of it; in the thread of the caller too. What either of them raises
                ends the writing.

        Raises:
            InputError: a question is empty, or cannot be put to this writer; or a listener of this writer calls it.
            ModelError: the model cannot be run, or wrote something that cannot be right.
            OutOfMemoryError: a single window is too large for the device.
        """
        ...

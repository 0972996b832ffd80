"""From a prompt to token ids, in two parts: one that holds the frames, one that holds the question.

The first part does not depend on the question, so that whatever a model computes for it can serve
many questions. The cut is made right behind the last visual item: that item ends in a special
token, which no tokenizer merges with its neighbours, so the parts are exactly the halves of the
whole, whatever text a :class:`~hybrid.fine.prompt.PromptSpec` holds.

**A question is plain text.** If it contains the text of a special token, such as ``<|im_end|>`` or
``<|image_pad|>``, it becomes ordinary tokens, so that it can neither end the user's turn
nor stand for a frame. Only the texts of the prompt itself may hold special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hybrid.errors import InputError
from hybrid.fine.prompt import PromptSpec
from hybrid.values import IntArray, check_questions

__all__ = ["PromptTokens", "TextTokenizer", "VisionTokenIds", "VisualPrefix", "check_positions"]


class TextTokenizer(Protocol):
    """The part of a tokenizer of transformers that is used here."""

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]:
        """Ids of a text; with ``split_special_tokens`` special tokens in it become ordinary tokens."""


@dataclass(frozen=True, slots=True)
class VisionTokenIds:
    """Ids that frame a visual item: its start, the placeholder of one feature, its end."""

    start: int
    pad: int
    end: int


@dataclass(frozen=True, slots=True)
class VisualPrefix:
    """The part of a prompt that holds the frames.

    Attributes:
        ids: token ids, ending with the end of the last visual item.
        text_runs: for each visual item, how many tokens precede its placeholders since the last
            placeholder of the item before it.
        tokens_per_block: how many placeholders each visual item has.
    """

    ids: list[int]
    text_runs: tuple[int, ...]
    tokens_per_block: tuple[int, ...]

    @property
    def feature_positions(self) -> IntArray:
        """int64 [all features]: their positions among ``ids``."""
        sizes = np.array(self.tokens_per_block)
        before = np.cumsum(self.text_runs) + np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return np.concatenate([np.arange(start, start + size) for start, size in zip(before, sizes, strict=True)])


class PromptTokens:
    """Turns one prompt into token ids with one tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers.
        special_ids: every special token of the tokenizer and its id.
        vision: the ids that frame a visual item.
        spec: the prompt.
    """

    def __init__(
        self, tokenizer: TextTokenizer, *, special_ids: dict[str, int], vision: VisionTokenIds, spec: PromptSpec
    ) -> None:
        self._tokenizer = tokenizer
        self._special_ids = special_ids
        self._vision = vision
        self._spec = spec
        # Longest first: one special token may begin with another.
        names = sorted(special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names))) if names else re.compile(r"(?!)")

    def prefix(self, tokens_per_block: Sequence[int]) -> VisualPrefix:
        """The start of the prompt, up to the end of the last visual item.

        Args:
            tokens_per_block: how many features each visual item has.
        """
        ids: list[int] = []
        runs: list[int] = []
        after_pads = 0
        for block, count in enumerate(tokens_per_block):
            ids += self._trusted(self._spec.before_block(block))
            ids.append(self._vision.start)
            runs.append(len(ids) - after_pads)
            ids += [self._vision.pad] * count
            after_pads = len(ids)
            ids.append(self._vision.end)
        return VisualPrefix(ids=ids, text_runs=tuple(runs), tokens_per_block=tuple(tokens_per_block))

    def suffix(self, question: str) -> list[int]:
        """The rest of the prompt: all that follows the last visual item.

        Raises:
            InputError: the question is empty, too long, or not valid text.
        """
        check_questions([question])
        before, after = self._spec.around_question()
        # Special tokens are looked for in the prompt's own texts only. The question joins the run
        # of plain text around it, so that it is tokenised as in one piece with its surroundings.
        head, lead = self._split(before)
        trail, rest = self._split_front(after)
        return head + self._plain(lead + question + trail) + rest

    def _trusted(self, text: str) -> list[int]:
        ids, plain = self._split(text)
        return ids + self._plain(plain)

    def _split(self, text: str) -> tuple[list[int], str]:
        """The ids of a text up to its last special token, and the plain text behind that."""
        ids: list[int] = []
        done = 0
        for found in self._special.finditer(text):
            ids += self._plain(text[done : found.start()])
            ids.append(self._special_ids[found.group()])
            done = found.end()
        return ids, text[done:]

    def _split_front(self, text: str) -> tuple[str, list[int]]:
        """The plain text before the first special token, and the ids from that token on."""
        found = self._special.search(text)
        if found is None:
            return text, []
        return text[: found.start()], self._trusted(text[found.start() :])

    def _plain(self, text: str) -> list[int]:
        if not text:
            return []
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def check_positions(prompt: int, reply: int, *, frames: int, limit: int) -> None:
    """Refuse what is longer than a model was made for: beyond its positions it goes on, and means nothing.

    Args:
        prompt: positions of the whole prompt.
        reply: of the longest reply.
        frames: of the window, for the error.
        limit: how many the model has (``max_position_embeddings``).

    Raises:
        InputError: there are more.
    """
    if prompt + reply > limit:
        raise InputError(
            f"a window of {frames} frames with its question takes {prompt} positions and the reply up to {reply}, "
            f"the model has {limit}; use a smaller --window or a shorter question"
        )

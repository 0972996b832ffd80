"""The prompt of GenS on Aria: published texts, around them the chat form of the checkpoint's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hybrid.errors import ModelLoadError, first_line
from hybrid.fine.aria.convert.config import FRAME_SIDE
from hybrid.fine.prompt import PromptSpec

__all__ = ["FRAME_BLOCK", "GENS_ARIA", "TURN_END", "SpellingTokenizer", "marks_of", "prompt_of_tokenizer"]

FRAME_BLOCK = ("<fim_prefix>", "<|img|>", "<fim_suffix>")
"""What stands for a frame: its start, the placeholder of its features, its end."""
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

GENS_ARIA = PromptSpec(head="<|im_start|>user\n", frame_size=(FRAME_SIDE, FRAME_SIDE))
"""The published prompt, in plain ChatML without a system turn.

Replies may be longer than the 256 tokens of the published code, at which long answers are cut; the
tokens until then are the same.
"""

_PLACEHOLDER = "\u2603 the frames and the question \u2603"


def prompt_of_tokenizer(tokenizer: Any) -> PromptSpec:
    """:data:`GENS_ARIA` with the turns that the tokenizer's own chat template writes, if it has one.

    A token that the tokenizer puts before every text (BOS) comes first, once.

    Raises:
        ModelLoadError: the template cannot be used.
    """
    head, tail = GENS_ARIA.head, GENS_ARIA.tail
    if tokenizer.chat_template:
        try:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": _PLACEHOLDER}], add_generation_prompt=True, tokenize=False
            )
            head, tail = text.split(_PLACEHOLDER)
        except Exception as exc:  # a template raises what it likes; one seam for all
            raise ModelLoadError(f"the tokenizer's chat template cannot be used: {first_line(exc)}") from exc
    first = tokenizer.encode("", add_special_tokens=True)[:1]
    if first and first[0] == tokenizer.bos_token_id:
        head = tokenizer.bos_token + head
    return replace(GENS_ARIA, head=head, tail=tail)


def marks_of(tokenizer: Any) -> dict[str, int]:
    """Text -> id of every token that is no plain text: special ones, and those of frames and turns.

    Whether a tokenizer flags the latter as special differs from one conversion to another.
    """
    marks = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    for text in (*FRAME_BLOCK, TURN_START, TURN_END):
        number = tokenizer.convert_tokens_to_ids(text)
        if text not in marks and number is not None and number != tokenizer.unk_token_id:
            marks[text] = int(number)
    return marks


class SpellingTokenizer:
    """A tokenizer that takes the text of a mark as plain text, by cutting it behind its first letter.

    For tokenizers that cannot do so themselves, so that a question can neither end the user's turn
    nor name a frame. Other text is tokenised as usual.

    Args:
        tokenizer: of transformers.
        marks: the texts that must not become one token.
    """

    def __init__(self, tokenizer: Any, marks: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        cuts = (f"(?<={re.escape(mark[0])})(?={re.escape(mark[1:])})" for mark in marks if len(mark) > 1)
        self._cut = re.compile("|".join(cuts))

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]:
        """Ids of a text; see :class:`hybrid.fine.tokens.TextTokenizer`."""
        pieces = self._cut.split(text) if split_special_tokens else [text]
        options = {"add_special_tokens": add_special_tokens, "split_special_tokens": split_special_tokens}
        return [number for piece in pieces for number in self._tokenizer.encode(piece, **options)]

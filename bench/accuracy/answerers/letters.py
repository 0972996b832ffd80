"""Which option a reply names, by the rules of lmms-eval, so that accuracies compare with those that it prints.

lmms-eval (EvolvingLMMs-Lab/lmms-eval, 0.7, ``tasks/_task_utils/mcq_extract.py``; Video-MME and MLVU use it) looks for
the letters of the options, in capitals, in nine forms. The first form of this list that occurs decides, and in it the
occurrence that lies last:

1. the reply begins with a letter that no other letter follows
2. the reply ends with a letter before which there is no other letter
3. after a phrase such as "the answer is": of the first occurrence of each option's letter, the last
4. "(A)"   5. "A."   6. "A:"   7. "A)"   8. "A" before a blank   9. anywhere

Punctuation around the reply is taken away first. Two consequences are theirs and are kept: a letter inside a word
counts in forms 3, 5 to 9 ("NASA is"), and in form 3 a later word that begins with a letter of another option wins
("The answer is B, because Adam ..." is A). Replies are kept word for word in a run's record, so that other rules can
be applied later. Where nothing is found the reply is unreadable, which is wrong; lmms-eval's LongVideoBench task
draws an option at random instead, which is not done here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["extract_letter", "without_thoughts"]

_THOUGHT: Final = re.compile(r"<think>.*?</think>", re.DOTALL)
_THOUGHT_END: Final = "</think>"

_PUNCTUATION: Final = ",.!?;:'\""
_QUALITIES: Final[dict[str, tuple[str, ...]]] = {
    "answer": ("", "correct ", "best "),
    "option": ("correct ", "best "),
    "choice": ("", "correct "),
}
_PHRASES: Final = (
    *(
        f"{article}{quality}{noun} is"
        for noun, qualities in _QUALITIES.items()
        for quality in qualities
        for article in ("", "the ")
    ),
    *(f"i {verb}" for verb in ("choose", "select", "pick")),
    *(f"my {noun} is" for noun in ("answer", "choice")),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
_FORMS: Final = ("({})", "{}.", "{}:", "{})", "{} ", "{}")

Found = list[tuple[int, str]]


def extract_letter(reply: str, letters: Sequence[str]) -> str | None:
    """The letter of the option that a reply names; None if it names none.

    Args:
        reply: as the model wrote it, :func:`without_thoughts`.
        letters: of the options, capitals.
    """
    text = reply.strip()
    for mark in _PUNCTUATION:
        text = text.strip(mark)
    padded = f" {text} "
    for form in (_at_start, _at_end, _after_phrase, *map(_in_form, _FORMS)):
        found = form(padded, letters)
        if found:
            return max(found)[1]
    return None


def without_thoughts(reply: str) -> str:
    """A reply without what a reasoning model wrote between ``<think>`` and ``</think>``, as lmms-eval takes it away.

    Where the prompt opened the thought, only its end is there, and what follows it counts. A thought that was cut
    before its end stays.
    """
    text = _THOUGHT.sub("", reply)
    if _THOUGHT_END in text and "<think>" not in text:
        text = text.rpartition(_THOUGHT_END)[2]
    return text.strip()


def _at_start(text: str, letters: Sequence[str]) -> Found:
    bare = text.strip()
    alone = not bare[1:2].isalpha()
    return [(0, letter) for letter in letters if alone and bare.startswith(letter)]


def _at_end(text: str, letters: Sequence[str]) -> Found:
    bare = text.strip()
    alone = not bare[-2:-1].isalpha()
    return [(0, letter) for letter in letters if alone and bare.endswith(letter)]


def _after_phrase(text: str, letters: Sequence[str]) -> Found:
    lowered = text.lower()
    ends = [at + len(phrase) for phrase in _PHRASES if (at := lowered.find(phrase)) >= 0]
    return [(at, letter) for end in ends for letter in letters if (at := text.find(letter, end)) >= 0]


def _in_form(form: str) -> Callable[[str, Sequence[str]], Found]:
    def find(text: str, letters: Sequence[str]) -> Found:
        return [(at, letter) for letter in letters if (at := text.rfind(form.format(letter))) >= 0]

    return find

"""GenS's form of a reply as tables over the tokens of a checkpoint.

The form is one JSON object, ``{"11-12": 5, "33": 2}``: keys are labels of frames or ranges of
labels, values are scores from 1 to 5, and the spacing is that of the published replies. An object
without entries, ``{}``, is legal: no frame is relevant. The parser, not the form, orders the two ends of a
range: as part of the form this would take tens of thousands of states.

An automaton over characters is walked with the text of every token once, and becomes a table
``state, token -> state``. Any way to cut a reply into tokens is admissible, as in xgrammar
(arXiv 2411.15100). With the table on the model's device, decoding needs no look at the text, and
only the rows of the output layer that belong to admissible tokens.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError, ModelLoadError

__all__ = ["GrammarTables", "ReplyGrammar", "token_texts"]

ALPHABET = frozenset('{}"-:, 0123456789')
SCORES = "12345"
_FAR = np.iinfo(np.int32).max // 2
_DIGITS = "0123456789"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True, eq=False)
class GrammarTables:
    """The form over tokens, for one range of labels.

    Attributes:
        following: int32 [states, columns]: the state after a token, -1 where it is not admissible.
            Columns are the entries of :attr:`ReplyGrammar.token_ids`. The end leads to itself with
            every token, so that a row may run on for a few steps after it.
        distance: int32 [states]: the fewest tokens from there to the end.
        start: the state before the first token.
        end: the state after the closing brace.
    """

    following: npt.NDArray[np.int32]
    distance: npt.NDArray[np.int32]
    start: int
    end: int


class ReplyGrammar:
    """The form of a reply over the tokens of one tokenizer.

    Args:
        texts: token id -> its text, of all tokens made of the characters of a reply; see
            :func:`token_texts`.

    Attributes:
        texts: token id -> its text, of the tokens that can occur in a reply.
        token_ids: the ids of these tokens.
        closing_ids: those that end a reply.

    Raises:
        ModelLoadError: a reply cannot be written with these tokens.
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        self.texts = {number: text for number, text in sorted(texts.items()) if text and set(text) <= ALPHABET}
        self._tables = lru_cache(maxsize=None)(self._make_tables)
        # Tokens that no state admits, such as "::", would only widen the output layer. Which ones these
        # are depends on the labels only through their digits, so a wide range shows them all.
        following = self._walk(_Automaton(0, 10**6 - 1))
        used = np.flatnonzero((following >= 0).any(axis=0))
        numbers = list(self.texts)
        self.texts = {numbers[column]: self.texts[numbers[column]] for column in used}
        self.token_ids: tuple[int, ...] = tuple(self.texts)
        self.closing_ids = frozenset(number for number, text in self.texts.items() if text.endswith("}"))
        self.tables(0, 0)

    def tables(self, first: int, last: int) -> GrammarTables:
        """The tables for labels from ``first`` to ``last``, both included; cached.

        Raises:
            InputError: there is no label, or one has more than six digits.
        """
        if not 0 <= first <= last < 10**6:
            raise InputError(f"labels run from {first} to {last}; they must be from 0 to 999999, the first one first")
        return self._tables(first, last)

    def _make_tables(self, first: int, last: int) -> GrammarTables:
        automaton = _Automaton(first, last)
        following = self._walk(automaton)
        following[automaton.end] = automaton.end
        distance = _distances(following, automaton.end)
        if distance[automaton.start] >= _FAR:
            raise ModelLoadError(
                'the tokenizer cannot write a reply of the form {"11-12": 5}: it lacks tokens for its characters'
            )
        # A state from which the end cannot be reached must not be entered.
        following[distance[following] >= _FAR] = -1
        return GrammarTables(following=following, distance=distance, start=automaton.start, end=automaton.end)

    def _walk(self, automaton: _Automaton) -> npt.NDArray[np.int32]:
        """int32 [states, columns]: where the text of each token leads from each state."""
        following = np.full((len(automaton.edges), len(self.texts)), -1, dtype=np.int32)
        for state in range(len(automaton.edges)):
            for column, text in enumerate(self.texts.values()):
                following[state, column] = automaton.walk(state, text)
        return following


class _Automaton:
    """The form over characters. ``edges[state]`` maps a character to the next state."""

    def __init__(self, first: int, last: int) -> None:
        self.edges: list[dict[str, int]] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._limits = (first, last)
        self.end = self._state({})
        value, after, comma, colon, space = (self._state({}) for _ in range(5))
        self.edges[value] = dict.fromkeys(SCORES, after)
        self.edges[colon], self.edges[space] = {":": space}, {" ": value}
        second = self._number(0, {'"': colon}, empty=True)
        key = self._number(0, {'"': colon, "-": second}, empty=True)
        quote = self._state({'"': key})
        self.edges[comma] = {" ": quote}
        self.edges[after] = {",": comma, "}": self.end}
        opened = self._state({'"': key, "}": self.end})
        self.start = self._state({"{": opened})

    def walk(self, state: int, text: str) -> int:
        """The state after a text, or -1."""
        for character in text:
            state = self.edges[state].get(character, -1)
            if state < 0:
                return -1
        return state

    def _state(self, edges: dict[str, int]) -> int:
        self.edges.append(edges)
        return len(self.edges) - 1

    def _number(self, value: int, after: dict[str, int], *, empty: bool = False) -> int:
        """The state in which the digits of ``value`` were read, and ``after`` follows a whole label.

        States from which the same texts lead on are one.
        """
        first, last = self._limits
        edges: dict[str, int] = {}
        if empty or value > 0:  # no label but 0 begins with 0
            for digit in _DIGITS:
                longer = value * 10 + int(digit)
                if _begins_label(longer, first, last):
                    edges[digit] = self._digits(longer, after)
        if not empty and first <= value <= last:
            edges |= after
        return self._one(edges)

    def _digits(self, value: int, after: dict[str, int]) -> int:
        free = _free_digits(value, *self._limits)
        return self._number(value, after) if free is None else self._any_digits(free, after)

    def _any_digits(self, count: int, after: dict[str, int]) -> int:
        """A whole label was read, and up to ``count`` further digits may follow, whichever they are."""
        edges = dict(after)
        if count > 0:
            edges |= dict.fromkeys(_DIGITS, self._any_digits(count - 1, after))
        return self._one(edges)

    def _one(self, edges: dict[str, int]) -> int:
        signature = tuple(sorted(edges.items()))
        if signature not in self._known:
            self._known[signature] = self._state(edges)
        return self._known[signature]


def _spans(value: int, last: int) -> Iterator[tuple[int, int]]:
    """The numbers that begin with the digits of ``value``, by length: smallest and greatest."""
    low, high = value, value
    while low <= last:
        yield low, high
        if value == 0:
            return
        low, high = low * 10, high * 10 + 9


def _begins_label(value: int, first: int, last: int) -> bool:
    return any(low <= last and high >= first for low, high in _spans(value, last))


def _free_digits(value: int, first: int, last: int) -> int | None:
    """How many further digits may follow in any choice, if all such numbers are labels; else None."""
    spans = list(_spans(value, last))
    whole = all(first <= low and high <= last for low, high in spans)
    return len(spans) - 1 if whole else None


def _distances(following: npt.NDArray[np.int32], end: int) -> npt.NDArray[np.int32]:
    """The fewest tokens from each state to the end."""
    sources: list[set[int]] = [set() for _ in range(len(following))]
    for state, row in enumerate(following):
        for target in np.unique(row[row >= 0]):
            sources[target].add(state)
    distance = np.full(len(following), _FAR, dtype=np.int32)
    distance[end] = 0
    waiting = deque([end])
    while waiting:
        target = waiting.popleft()
        for source in sources[target]:
            if distance[source] == _FAR:
                distance[source] = distance[target] + 1
                waiting.append(source)
    return distance


def token_texts(tokenizer: Any, *, special_ids: Collection[int]) -> dict[int, str]:
    """The tokens of a tokenizer that are made of the characters of a reply, with their texts.

    Byte-level vocabularies (Qwen, GPT-2), those that mark spaces with U+2581 and those with tokens
    for single bytes (both Llama's) are read alike: a token's spelling is translated, and taken only
    if the tokenizer itself decodes it to that text behind another token.

    Args:
        tokenizer: a tokenizer of transformers.
        special_ids: tokens that stand for no text.
    """
    spelt: dict[int, str] = {}
    for spelling, number in tokenizer.get_vocab().items():
        text = _byte_text(spelling).replace("\u0120", " ").replace("\u2581", " ")
        if text and number not in special_ids and set(text) <= ALPHABET:
            spelt[number] = text
    anchors = [number for number, text in sorted(spelt.items()) if text == "}"][:1]
    if not anchors:
        return {}
    return {number: text for number, text in sorted(spelt.items()) if _decodes_to(tokenizer, anchors, number, text)}


def _byte_text(spelling: str) -> str:
    byte = _BYTE_TOKEN.fullmatch(spelling)
    return chr(int(byte.group(1), 16)) if byte else spelling


def _decodes_to(tokenizer: Any, anchors: Sequence[int], number: int, text: str) -> bool:
    decoded = tokenizer.decode([*anchors, number, *anchors], clean_up_tokenization_spaces=False)
    return bool(decoded == "}" + text + "}")

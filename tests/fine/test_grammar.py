"""The form of a reply over tokens: against the regular expression, json, and another implementation."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import InputError, ModelLoadError
from hybrid.fine.decoding.grammar import ALPHABET, GrammarTables, ReplyGrammar, token_texts
from hybrid.fine.reply import parse_reply
from tests.fine.reading import admissible, reply_pattern

PUBLISHED = '{"11-12": 5, "16-21": 4, "28-30": 4, "46-49": 4, "22-27": 3, "33": 2}'


def with_tokens(*more: str) -> ReplyGrammar:
    """A grammar over all single characters and some longer tokens."""
    return ReplyGrammar(dict(enumerate([*sorted(ALPHABET), *more])))


DIGITS = with_tokens('{"', '":', ' "', '": ', ", ", "-1", '"}', "::")
NUMBERS = with_tokens('{"', '": ', ', "', *map(str, range(10, 1000)), "0-", '1": 5, "')
GRAMMARS = {"digits": DIGITS, "numbers": NUMBERS}
RANGES = [(0, 0), (0, 9), (1, 10), (0, 50), (0, 255), (1, 256), (7, 7), (99, 101), (0, 1023)]


def write(grammar: ReplyGrammar, tables: GrammarTables, choices: Any, *, limit: int) -> tuple[str, int]:
    """A reply in which ``choices`` picks among what is admissible; its text and its tokens."""
    state, written = tables.start, []
    texts = list(grammar.texts.values())
    while state != tables.end:
        columns = np.flatnonzero(admissible(tables, state, limit - len(written)))
        assert len(columns), "nothing is admissible"
        written.append(columns[choices(len(columns))])
        state = int(tables.following[state, written[-1]])
    return "".join(texts[column] for column in written), len(written)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(GRAMMARS)), labels=st.sampled_from(RANGES), limit=st.integers(2, 60), data=st.data())
def test_whatever_is_chosen_is_a_reply_within_the_limit(
    kind: str, labels: tuple[int, int], limit: int, data: st.DataObject
) -> None:
    grammar = GRAMMARS[kind]
    text, tokens = write(
        grammar, grammar.tables(*labels), lambda count: data.draw(st.integers(0, count - 1)), limit=limit
    )
    assert tokens <= limit
    assert reply_pattern(*labels).fullmatch(text)
    scores = json.loads(text)
    assert all(score in (1, 2, 3, 4, 5) for score in scores.values())
    first, last = labels
    parsed = parse_reply(text, last - first + 1, first_index=first)
    assert bool(parsed.scores) == bool(scores)
    assert not [note for note in parsed.notes if "dropped" in note or "clipped" in note]


def admits(grammar: ReplyGrammar, tables: GrammarTables, pieces: list[str]) -> bool:
    """Whether a text in these tokens is a whole reply."""
    columns = {text: column for column, text in enumerate(grammar.texts.values())}
    state = tables.start
    for piece in pieces:
        if piece not in columns or state == tables.end:
            return False
        state = int(tables.following[state, columns[piece]])
        if state < 0:
            return False
    return state == tables.end


@pytest.mark.parametrize("labels", RANGES)
def test_numbers_are_exactly_the_labels(labels: tuple[int, int]) -> None:
    first, last = labels
    tables = DIGITS.tables(*labels)
    for number in range(1100):
        inside = first <= number <= last
        assert admits(DIGITS, tables, list('{"' + str(number) + '": 3}')) == inside
        assert admits(DIGITS, tables, list(f'{{"{first}-{number}": 3}}')) == inside
        assert not admits(DIGITS, tables, list('{"0' + str(number) + '": 3}'))


@settings(max_examples=100, deadline=None)
@given(
    text=st.from_regex(reply_pattern(0, 50), fullmatch=True)
    | st.text(alphabet=sorted(ALPHABET), max_size=12)
    | st.sampled_from([PUBLISHED, "{}", '{"1":5}', '{"1": 6}', '{"1": 5,}', '{"1": 5', "{ }", '{"": 5}', '{"1-": 5}'])
)
def test_admits_exactly_the_pattern(text: str) -> None:
    assert admits(DIGITS, DIGITS.tables(0, 50), list(text)) == bool(reply_pattern(0, 50).fullmatch(text))


def test_the_published_reply_in_several_cuts() -> None:
    whole = ['{"', "11", "-", "12", '": ', "5", ', "', "16", "-", "21", '": ', "4", "}"]
    assert admits(NUMBERS, NUMBERS.tables(0, 50), whole)
    assert admits(NUMBERS, NUMBERS.tables(0, 50), list("".join(whole)))
    assert admits(NUMBERS, NUMBERS.tables(0, 50), ['{"', "1", '1": 5, "', "0-", "9", '": ', "4", "}"])
    assert not admits(NUMBERS, NUMBERS.tables(0, 50), ['{"', "51", '": ', "4", "}"])
    assert not admits(NUMBERS, NUMBERS.tables(0, 50), ['{"', "5", "1", '": ', "4", "}"])


def test_only_tokens_that_can_occur_are_kept() -> None:
    assert {"::", '"}'}.isdisjoint(DIGITS.texts.values())
    assert {"{", "}", '{"', "-1"} <= set(DIGITS.texts.values())
    assert {DIGITS.texts[number] for number in DIGITS.closing_ids} == {"}"}


def test_a_large_window_has_few_states() -> None:
    assert len(DIGITS.tables(0, 255).distance) < 100
    assert len(DIGITS.tables(0, 99_999).distance) < 100


def test_a_tokenizer_that_cannot_write_a_reply_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="cannot write a reply"):
        ReplyGrammar({0: "{", 1: '"'})
    with pytest.raises(InputError, match="labels run from 3 to 2"):
        DIGITS.tables(3, 2)


def test_a_dead_end_is_not_entered() -> None:
    """Without a colon no entry can be finished: all that is left is the empty reply."""
    lame = ReplyGrammar(dict(enumerate(sorted(ALPHABET - {":"}))))
    tables = lame.tables(0, 9)
    assert {write(lame, tables, lambda count, step=step: step % count, limit=9)[0] for step in range(9)} == {"{}"}


def byte_level_tokenizer(lines: list[str], *, split_digits: bool) -> Any:
    """A trained byte-level tokenizer that keeps digits single, or merges them."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    pattern = r"\p{N}| ?[^\s\p{N}]+|\s+" if split_digits else r"\p{N}+| ?[^\s\p{N}]+|\s+"
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        lines, BpeTrainer(vocab_size=900, min_frequency=1, show_progress=False, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=learner, eos_token="<end>")


def marked_space_tokenizer() -> Any:
    """A tokenizer that marks spaces with U+2581, as Llama's do, with tokens for single bytes."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256)), *'{}"-:,\u25810123456789', '\u2581"', '":']
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("\u2581", '"'), ('"', ":")]
    made = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", unk_token="<unk>")


LINES = [PUBLISHED, '{"255": 5, "100-200": 4}', "words 77 78 79: none, at all"] * 3


@pytest.fixture(scope="module", params=["digits", "numbers", "marked"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "marked":
        return marked_space_tokenizer()
    return byte_level_tokenizer(LINES, split_digits=request.param == "digits")


def test_texts_of_a_real_tokenizer(tokenizer: Any) -> None:
    texts = token_texts(tokenizer, special_ids=tokenizer.all_special_ids)
    assert set(texts.values()) >= ALPHABET
    if "\u2581" in tokenizer.get_vocab():
        assert ' "' in texts.values()
        return
    # Against the tokenizer's own decoder, token by token.
    for number in range(len(tokenizer)):
        text = tokenizer.decode([number], clean_up_tokenization_spaces=False)
        written = bool(text) and set(text) <= ALPHABET
        assert texts.get(number) == (text if written else None), number


@pytest.mark.parametrize("text", [PUBLISHED, "{}", '{"0": 1, "4-9": 3, "12-50": 5}'])
def test_the_tokenizers_own_cut_is_admissible(tokenizer: Any, text: str) -> None:
    grammar = ReplyGrammar(token_texts(tokenizer, special_ids=tokenizer.all_special_ids))
    tables = grammar.tables(0, 50)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    state = tables.start
    for number in ids:
        assert number in grammar.token_ids
        state = int(tables.following[state, grammar.token_ids.index(number)])
        assert state >= 0
    assert state == tables.end


def test_the_small_checkpoints_tokenizer(reference_tokenizer: Any) -> None:
    grammar = ReplyGrammar(token_texts(reference_tokenizer, special_ids=reference_tokenizer.all_special_ids))
    numbers = [text for text in grammar.texts.values() if re.search(r"\d\d", text)]
    assert not numbers, "every digit is a token of its own in Qwen's tokenizer"
    assert not set(reference_tokenizer.all_special_ids) & set(grammar.token_ids)


@pytest.mark.parametrize("kind", ["digits", "numbers"])
def test_against_xgrammar_on_random_walks(kind: str) -> None:
    """Another implementation admits the same tokens in every state that a walk comes through."""
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar is not installed (pip install xgrammar)")
    import torch

    tokenizer = byte_level_tokenizer(LINES, split_digits=kind == "digits")
    size = len(tokenizer)
    ours = ReplyGrammar(token_texts(tokenizer, special_ids=tokenizer.all_special_ids))
    tables = ours.tables(0, 50)
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
    compiled = xgrammar.GrammarCompiler(info).compile_regex(reply_pattern(0, 50).pattern)
    generator = np.random.default_rng(5)
    steps = 0
    for _ in range(60):
        matcher = xgrammar.GrammarMatcher(compiled)
        mask = xgrammar.allocate_token_bitmask(1, size)
        state = tables.start
        while state != tables.end and steps < 4000:
            matcher.fill_next_token_bitmask(mask)
            bits = (mask[0][:, None] >> torch.arange(32)) & 1
            theirs = set(torch.flatten(bits)[:size].nonzero().flatten().tolist())
            columns = np.flatnonzero(admissible(tables, state))
            assert {ours.token_ids[column] for column in columns} == theirs
            # Closing braces more often than by chance, so that walks end.
            column = int(generator.choice(columns))
            assert matcher.accept_token(ours.token_ids[column])
            state, steps = int(tables.following[state, column]), steps + 1
    assert steps > 500

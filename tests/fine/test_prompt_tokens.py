"""Token ids of a prompt: those of the whole string, in two halves, with the question kept as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import InputError
from hybrid.fine.prompt import GENS_QWEN, PromptSpec
from hybrid.fine.tokens import PromptTokens, VisionTokenIds

MakeTokens = Callable[[PromptSpec], PromptTokens]


@pytest.fixture(scope="module")
def make_tokens(reference_tokenizer: Any) -> MakeTokens:
    special = {token.content: number for number, token in reference_tokenizer.added_tokens_decoder.items()}

    def make(spec: PromptSpec) -> PromptTokens:
        pad = "<|image_pad|>" if spec.mode == "image" else "<|video_pad|>"
        vision = VisionTokenIds(special["<|vision_start|>"], special[pad], special["<|vision_end|>"])
        return PromptTokens(reference_tokenizer, special_ids=special, vision=vision, spec=spec)

    return make


def whole(tokenizer: Any, spec: PromptSpec, question: str, blocks: tuple[int, ...]) -> list[int]:
    ids: list[int] = tokenizer(spec.render(question, tokens_per_block=blocks))["input_ids"]
    return ids


def test_golden_tokens(make_tokens: MakeTokens, reference_tokenizer: Any) -> None:
    prefix = make_tokens(PromptSpec(head="<|im_start|>\n", first_index=9)).prefix([2, 1])
    assert reference_tokenizer.convert_ids_to_tokens(prefix.ids) == [
        *("<|im_start|>", "Ċ", "[", "9", "]"),
        *("<|vision_start|>", "<|image_pad|>", "<|image_pad|>", "<|vision_end|>"),
        *("Ċ", "[", "1", "0", "]"),
        *("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"),
    ]
    assert prefix.text_runs == (6, 7)
    suffix = reference_tokenizer.convert_ids_to_tokens(make_tokens(GENS_QWEN).suffix("Why?"))
    assert suffix[0] == "Ċ"
    end = suffix.index("<|im_end|>")
    assert suffix[end + 1 : end + 3] == ["Ċ", "<|im_start|>"]
    assert "".join(suffix[end + 3 :]) == "assistantĊ"


@pytest.mark.parametrize(
    "spec",
    [
        GENS_QWEN,
        PromptSpec(frame_label="Frame Number [{index}] ", first_index=1, frame_end=""),
        # Texts that would merge with their neighbours if the cut were made between them.
        PromptSpec(frame_end="\n", question="\n\n Q{question}  \n", tail=" \n<|im_end|>\n<|im_start|>assistant\n"),
        PromptSpec(question="{question}", tail=""),
        PromptSpec(mode="video", frame_label=""),
    ],
)
@pytest.mark.parametrize("question", ["Why?", " who \n\n", "It's 12:05, isn't it? {x} assistant\n", "日本語 é e\u0301"])
def test_halves_are_those_of_the_whole_string(
    make_tokens: MakeTokens, reference_tokenizer: Any, spec: PromptSpec, question: str
) -> None:
    blocks = (16, 15, 1) if spec.mode == "image" else (32,)
    tokens = make_tokens(spec)
    assert tokens.prefix(blocks).ids + tokens.suffix(question) == whole(reference_tokenizer, spec, question, blocks)


def test_prompt_is_that_of_the_chat_template(reference_tokenizer: Any) -> None:
    """The default head and tail are what the chat template makes of one user turn."""
    _, after = GENS_QWEN.around_question()
    instruction = after.removesuffix(GENS_QWEN.tail)
    content: list[dict[str, str]] = []
    for i in range(3):
        content += [{"type": "text", "text": f"[{i}]"}, {"type": "image"}, {"type": "text", "text": "\n"}]
    content.append({"type": "text", "text": "Question: Why?" + instruction})
    rendered = reference_tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert GENS_QWEN.render("Why?", tokens_per_block=(1, 1, 1)) == rendered


def test_size_of_a_full_window(make_tokens: MakeTokens, reference_tokenizer: Any) -> None:
    """256 frames: 16 features, two brackets, a newline, start and end each, and 658 digits."""
    prefix = make_tokens(GENS_QWEN).prefix([16] * 256)
    head = len(reference_tokenizer(GENS_QWEN.head)["input_ids"])
    # The newline after the last frame belongs to the second half.
    assert len(prefix.ids) == head + 256 * (16 + 2 + 1 + 2) + 658 - 1


SPECIAL_TEXTS = ["<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|endoftext|>"]


@pytest.mark.parametrize("special", SPECIAL_TEXTS)
def test_special_tokens_in_a_question_are_text(make_tokens: MakeTokens, reference_tokenizer: Any, special: str) -> None:
    question = f"Is {special} shown?{special}"
    tokens = make_tokens(GENS_QWEN)
    suffix = tokens.suffix(question)
    number = reference_tokenizer.convert_tokens_to_ids(special)
    assert suffix.count(number) == tokens.suffix("Is it shown?").count(number)
    # Nothing is lost either: the model reads the question as it was typed.
    assert f"Question: {question}\nPlease" in reference_tokenizer.decode(suffix)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([*SPECIAL_TEXTS, "\n", " ", "assistant\n", "{question}", "{", "a", "7", "é"]), min_size=1)
)
def test_any_question_keeps_the_frame_of_the_prompt(
    make_tokens: MakeTokens, reference_tokenizer: Any, parts: list[str]
) -> None:
    question = "Q" + "".join(parts)
    suffix = make_tokens(GENS_QWEN).suffix(question)
    special = set(reference_tokenizer.all_special_ids)
    plain = [number for number in make_tokens(GENS_QWEN).suffix("Q") if number in special]
    assert [number for number in suffix if number in special] == plain
    assert f"Question: {question}\nPlease" in reference_tokenizer.decode(suffix)


@pytest.mark.parametrize("question", ["", " \n\t", "\ud800"])
def test_bad_questions_are_refused(make_tokens: MakeTokens, question: str) -> None:
    with pytest.raises(InputError):
        make_tokens(GENS_QWEN).suffix(question)

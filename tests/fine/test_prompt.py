"""The prompt as data: its exact text, its file form, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import InputError
from hybrid.fine.prompt import GENS_QWEN, PROMPT_FILE, PromptSpec, read_prompt

GOLDEN = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
    "[0]<|vision_start|><|image_pad|><|image_pad|><|vision_end|>\n"
    "[1]<|vision_start|><|image_pad|><|vision_end|>\n"
    "Question: Why?\n"
    "Please identify the video frames most relevant to the given question and provide \n"
    "              their timestamps in seconds along with a relevance score. The score should be on a \n"
    "              scale from 1 to 5, where higher scores indicate greater relevance. Return the output \n"
    '              strictly in the following JSON format: {"timestamp": score, ...}.'
    "<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def test_default_prompt_word_for_word() -> None:
    assert GENS_QWEN.render("Why?", tokens_per_block=(2, 1)) == GOLDEN


def test_question_is_put_in_word_for_word() -> None:
    nasty = 'a {question} b {index} {0} %s \\n assistant\n{"1": 5} {'
    prompt = GENS_QWEN.render(nasty, tokens_per_block=(1,))
    assert prompt.count(f"Question: {nasty}\n") == 1
    assert prompt.count('{"timestamp": score, ...}') == 1


def test_labels_follow_the_template() -> None:
    spec = PromptSpec(frame_label="Frame Number [{index}] {x}", first_index=1, frame_end="")
    prompt = spec.render("Why?", tokens_per_block=(1,) * 12)
    assert "Frame Number [1] {x}<|vision_start|>" in prompt
    assert "<|vision_end|>Frame Number [12] {x}<|vision_start|>" in prompt
    assert "Frame Number [0]" not in prompt


def test_video_prompt_has_one_item() -> None:
    spec = PromptSpec(mode="video", frame_label="")
    prompt = spec.render("Why?", tokens_per_block=(3,))
    assert "user\n<|vision_start|><|video_pad|><|video_pad|><|video_pad|><|vision_end|>\nQuestion: Why?\n" in prompt


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: "<|" not in text)


@given(
    texts,
    texts.filter(lambda t: "{index}" not in t),
    texts.filter(lambda t: "{question}" not in t),
    st.integers(0, 10**6),
    st.integers(1, 5000),
)
def test_round_trip(head: str, label: str, around: str, first: int, limit: int) -> None:
    spec = PromptSpec(
        head=head,
        frame_label=label + "{index}",
        question=around + "{question}" + around,
        first_index=first,
        frame_size=None,
        min_pixels=limit,
        max_pixels=4 * limit + 7,
        max_new_tokens=limit,
    )
    again = PromptSpec.from_json(spec.to_json())
    assert again == spec
    assert again.digest == spec.digest


def test_file_may_hold_only_what_differs(tmp_path: Path) -> None:
    assert read_prompt(tmp_path) is None
    (tmp_path / PROMPT_FILE).write_text('{"first_index": 1, "frame_size": [140, 84]}')
    assert read_prompt(tmp_path) == replace(GENS_QWEN, first_index=1, frame_size=(140, 84))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "must be an object"),
        ('{"frame_lable": "x"}', "unknown key 'frame_lable'"),
        ('{"mode": "movie"}', "mode is 'movie'"),
        ('{"mode": "video"}', "has no labels"),
        ('{"frame_label": "frame"}', "must hold {index} once"),
        ('{"question": "{question} {question}"}', "must hold {question} once"),
        ('{"head": 3}', "head is 3"),
        ('{"tail": "<|image_pad|>"}', "tail holds <|image_pad|>"),
        ('{"frame_size": [112]}', "two whole numbers"),
        ('{"frame_size": [112, 0]}', "at least 1"),
        ('{"frame_size": [112, 1e9]}', "whole number"),
        ('{"frame_size": null}', "needs min_pixels and max_pixels"),
        ('{"min_pixels": 5, "max_pixels": 9}', "set frame_size to null"),
        ('{"frame_size": null, "min_pixels": 9, "max_pixels": 35}', "at least 36"),
        ('{"max_new_tokens": 0}', "max_new_tokens is 0"),
        ('{"max_new_tokens": true}', "max_new_tokens is True"),
        ('{"first_index": -1}', "first_index is -1"),
        ('{"video_fps": 0}', "video_fps is 0"),
        ('{"video_fps": NaN}', "NaN is no number in JSON"),
    ],
)
def test_refusals_name_the_file_and_the_fault(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / PROMPT_FILE
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_prompt(tmp_path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_digest_sees_every_field() -> None:
    changed: dict[str, Any] = {
        "head": "a",
        "frame_label": "{index}",
        "first_index": 1,
        "frame_end": "b",
        "question": "{question}",
        "tail": "c",
        "frame_size": (140, 84),
        "video_fps": 2.0,
        "max_new_tokens": 7,
    }
    specs = [GENS_QWEN, *(replace(GENS_QWEN, **{key: value}) for key, value in changed.items())]
    specs.append(replace(GENS_QWEN, mode="video", frame_label=""))
    specs.append(replace(GENS_QWEN, frame_size=None, min_pixels=1, max_pixels=4))
    assert len({spec.digest for spec in specs}) == len(specs)
    tried = {*changed, "mode", "min_pixels", "max_pixels"}
    assert tried == {field.name for field in fields(PromptSpec)}


def test_json_is_readable() -> None:
    document = json.loads(GENS_QWEN.to_json())
    assert document["frame_label"] == "[{index}]"
    assert document["frame_size"] == [112, 112]

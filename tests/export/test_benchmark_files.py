"""The files for other people's evaluation, read back as their loaders read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.accuracy.answerers.prompts import write_prompt
from bench.datasets.registry import load_questions
from hybrid.answers import Answer, AnswerFrame
from hybrid.errors import InputError, SaveError
from hybrid.export.benchmarks.aks_frames import save_aks_frames
from hybrid.export.benchmarks.gens_rag import rag_line, save_rag_file

SEVEN = {"rag_images", "rag_sim", "fps", "video_path", "id", "video_id", "question"}


def answer(
    *frames: tuple[float, int, int | None], video: str = "/videos/kitchen.mp4", question: str = "Where is the pan?"
) -> Answer:
    """An answer with frames of (seconds, native number, GenS score)."""
    return Answer(
        question=question,
        video=video,
        video_id="0" * 8,
        duration_seconds=60.0,
        spans=(),
        frames=tuple(
            AnswerFrame(
                seconds=seconds, ordinal=int(seconds), frame_number=number, clip_similarity=0.25, gens_score=score
            )
            for seconds, number, score in frames
        ),
        stages=(),
    )


def loaded(line: dict[str, Any], rate: float) -> list[int]:
    """Native frames as the consumers read them: stem / fps seconds, then int(rate * seconds)."""
    return [int(rate * (int(Path(name).stem) / line["fps"])) for name in line["rag_images"]]


def test_a_line_has_all_seven_keys(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "rag.json"
    short = save_rag_file({"q7": answer((11.011, 330, 5), (12.012, 360, None))}, place, frames=2)
    (line,) = [json.loads(text) for text in place.read_text().splitlines()]
    assert line.keys() == SEVEN
    assert (line["id"], line["video_id"], line["question"]) == ("q7", "kitchen", "Where is the pan?")
    assert line["rag_images"] == ["00011012.jpg", "00012013.jpg"]
    assert line["rag_sim"] == [5.0, 0.25]
    assert short == ()


@given(
    st.lists(st.integers(0, 200_000), min_size=1, max_size=20), st.sampled_from([10, 24, 25, 30, 50, 60, 30000 / 1001])
)
@settings(deadline=None)
def test_the_consumer_finds_the_very_frames(numbers: list[int], rate: float) -> None:
    line = rag_line("q", answer(*((number / rate, number, 3) for number in numbers)))
    assert loaded(line, rate) == numbers


def test_answers_that_the_consumer_would_replace_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="q0 has 0 frames; it must have 1 to 2"):
        save_rag_file({"q0": answer()}, tmp_path / "rag.json", frames=2)
    with pytest.raises(InputError, match="q0 has 3 frames"):
        save_rag_file({"q0": answer((0, 0, 1), (1, 30, 1), (2, 60, 1))}, tmp_path / "rag.json", frames=2)
    with pytest.raises(InputError, match="no answer"):
        save_rag_file({}, tmp_path / "rag.json", frames=2)
    assert not (tmp_path / "rag.json").exists()


def test_short_answers_are_named(tmp_path: Path) -> None:
    answers = {"a": answer((0, 0, 1)), "b": answer((0, 0, 1), (1, 30, 2), question="Who enters?")}
    assert save_rag_file(answers, tmp_path / "rag.json", frames=2) == ("a",)


@pytest.mark.parametrize(
    ("video", "question"),
    [("/videos/kitchen.mp4", "Where is the pan? And who took it?"), ("/videos/kitchen.mp4", "Where is the pan?")],
)
def test_lines_that_llava_would_confuse_are_refused(tmp_path: Path, video: str, question: str) -> None:
    answers = {"a": answer((0, 0, 1)), "b": answer((0, 0, 1), video=video, question=question)}
    with pytest.raises(InputError, match="would use neither"):
        save_rag_file(answers, tmp_path / "rag.json", frames=2)


def test_a_video_whose_name_is_part_of_another_is_seen(tmp_path: Path) -> None:
    answers = {"a": answer((0, 0, 1), video="v1.mp4"), "b": answer((0, 0, 1), video="v10.mp4")}
    with pytest.raises(InputError, match="lines a and b"):
        save_rag_file(answers, tmp_path / "rag.json", frames=2)


def lines_found(place: Path, video: str, prompt: str) -> list[str]:
    """The LLaVA loader's rule: ids of the lines that it takes for a question."""
    lines = [json.loads(text) for text in place.read_text().splitlines()]
    return [line["id"] for line in lines if video in line["video_id"] and line["question"] in prompt]


def test_options_stand_in_the_lines_that_are_part_of_another_question(tmp_path: Path) -> None:
    pan, both = "Where is the pan?", "Where is the pan? And who took it?"
    prompts = {
        "part": f"{pan}\nA. On the table\nB. In the sink",
        "whole": f"{both}\nA. Anna\nB. Ben",
        "again": f"{pan}\nA. Under the bed\nB. In the hall",  # the same words with other options
        "other video": f"{pan}\nA. On the table\nB. In the sink",
        "alone": "Who enters?\nA. Anna\nB. Ben",
    }
    videos = {name: "garden.mp4" if name == "other video" else "kitchen.mp4" for name in prompts}
    answers = {
        name: answer((0, 0, 1), video=videos[name], question=prompt.splitlines()[0]) for name, prompt in prompts.items()
    }
    place = tmp_path / "rag.json"
    with pytest.raises(InputError, match=r"would use neither; .*--data of bench.accuracy.export"):
        save_rag_file(answers, place, frames=1)
    save_rag_file(answers, place, frames=1, prompts=prompts)
    for name, prompt in prompts.items():
        assert lines_found(place, videos[name].removesuffix(".mp4"), prompt) == [name]
    questions = [json.loads(text)["question"] for text in place.read_text().splitlines()]
    assert questions == [prompts["part"], both, prompts["again"], pan, "Who enters?"]  # only where needed
    save_rag_file({**answers, "twin": answers["part"]}, place, frames=1, prompts={**prompts, "twin": "x " + pan})
    with pytest.raises(InputError, match="asked in the same words"):
        save_rag_file(
            {**answers, "twin": answers["part"]}, place, frames=1, prompts={**prompts, "twin": prompts["part"]}
        )
    with pytest.raises(InputError, match="take the annotations that the run was over"):
        save_rag_file(answers, place, frames=1, prompts={**prompts, "alone": "Who leaves?"})


def test_all_of_longvideobench_is_found(tmp_path: Path, shared_data: Path) -> None:
    questions = load_questions("longvideobench", shared_data / "longvideobench")
    prompts = {question.id: write_prompt(question, "{question}\n{options}") for question in questions}
    answers = {q.id: answer((0, 0, 1), video=q.video, question=q.question) for q in questions}
    save_rag_file(answers, tmp_path / "rag.json", frames=64, prompts=prompts)
    lines = [json.loads(text) for text in (tmp_path / "rag.json").read_text().splitlines()]
    found = 0
    for question in questions:
        video, prompt = question.video.removesuffix(".mp4"), prompts[question.id] + "\nAnswer with the letter.\n"
        own = [line["id"] for line in lines if video in line["video_id"] and line["question"] in prompt]
        found += own == [question.id]
    assert found == len(questions) == 1337
    assert sum("\nA. " in line["question"] for line in lines) < 40


def test_qwen_takes_one_question_a_video(tmp_path: Path) -> None:
    answers = {"a": answer((0, 0, 1)), "b": answer((0, 0, 1), question="Who enters?")}
    save_rag_file(answers, tmp_path / "llava.json", frames=2)
    with pytest.raises(InputError, match="keeps the last line"):
        save_rag_file(answers, tmp_path / "qwen.json", frames=2, consumer="qwen2_vl")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="cannot be written"):
        save_rag_file({"a": answer((0, 0, 1))}, tmp_path / "file" / "rag.json", frames=2)


def test_aks_lists_and_annotations(tmp_path: Path) -> None:
    annotations = [{"id": "a", "question": "Where is the pan?"}, {"id": "b", "question": "Where is the pan?", "x": 1}]
    answers = [answer((2, 60, 1), (1, 30, 1)), answer((5, 150, 1))]
    assert save_aks_frames(answers, annotations, tmp_path / "aks", frames=2) == (1,)
    assert json.loads((tmp_path / "aks" / "selected_frames.json").read_text()) == [[30, 60], [150]]
    joined = json.loads((tmp_path / "aks" / "include_frame_idx.json").read_text())
    assert joined == [{**annotations[0], "frame_idx": [30, 60]}, {**annotations[1], "frame_idx": [150]}]


def test_aks_short_lists_can_repeat_their_frames(tmp_path: Path) -> None:
    answers = [answer((1, 30, 1), (2, 60, 1))]
    assert save_aks_frames(answers, [{"id": "a"}], tmp_path, frames=5, repeat=True) == ()
    assert json.loads((tmp_path / "selected_frames.json").read_text()) == [[30, 30, 30, 60, 60]]


def test_aks_refuses_what_its_loader_would_change(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="first 1 only"):
        save_aks_frames([answer((1, 30, 1), (2, 60, 1))], [{}], tmp_path, frames=1)
    with pytest.raises(InputError, match="no known number"):
        save_aks_frames([answer((1, -1, 1))], [{}], tmp_path, frames=1)
    with pytest.raises(InputError, match="1 answers to 2"):
        save_aks_frames([answer((1, 30, 1))], [{}, {}], tmp_path, frames=1)
    with pytest.raises(InputError, match="annotation 0 asks 'Who'"):
        save_aks_frames([answer((1, 30, 1))], [{"question": "Who"}], tmp_path, frames=1)

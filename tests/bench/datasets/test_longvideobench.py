"""LongVideoBench: the published file, and what a damaged one says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.datasets.files import DatasetError
from bench.datasets.longvideobench import load_longvideobench
from bench.datasets.lvb_selections import load_published_selections
from bench.datasets.question import needed_videos, subset, with_videos
from bench.datasets.registry import load_questions
from hybrid.errors import InputError

ROW: dict[str, Any] = {
    "id": "v_0",
    "video_id": "v",
    "video_path": "v.mp4",
    "question": "What is on the table?",
    "candidates": ["a cup", "a lamp"],
    "correct_choice": 1,
    "position": [48, 240, 99999],
    "topic_category": "KS",
    "question_category": "S2O",
    "level": "L1-Perception",
    "duration_group": 15,
    "duration": 9.5,
    "view_count": 3,
}


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "lvb_val.json").write_text(json.dumps(rows))
    return folder


def test_moments_are_on_a_timeline_of_24_frames_a_second(tmp_path: Path) -> None:
    (question,) = load_longvideobench(write(tmp_path, [ROW]))
    # 240 / 24 is 10.0 s, half a second after the end, which is kept; 99999 cannot be.
    assert question.moments_seconds == (2.0, 10.0)
    assert (question.options[question.answer or 0], question.video, question.duration_seconds) == (
        "a lamp",
        "v.mp4",
        9.5,
    )
    assert question.labels["duration_group"] == "15"


def test_the_published_file(shared_data: Path) -> None:
    questions = load_longvideobench(shared_data / "longvideobench")
    assert len(questions) == 1337
    assert len(needed_videos(questions)) == 753
    assert sum(len(question.moments_seconds) for question in questions) == 2395
    hour = subset(questions, labels={"duration_group": ["3600"]})
    assert len(hour) == 564
    few = subset(hour, limit=20, seed=1)
    assert len(few) == 20
    assert few == subset(hour, limit=20, seed=1) != subset(hour, limit=20, seed=2)
    assert len(load_published_selections(shared_data / "longvideobench", questions)) == 1337
    with pytest.raises(DatasetError, match="one line for each of the 564 questions"):
        load_published_selections(shared_data / "longvideobench", hour)


def test_two_questions_of_one_id_are_refused(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "id": "v_1"}, {**ROW, "question": "Who sits there?"}]
    with pytest.raises(InputError, match=r"two questions have the id 'v_0': 'What is on the table\?' about v.mp4 and"):
        load_questions("longvideobench", write(tmp_path, rows))


def test_only_the_videos_that_are_needed_are_asked_for(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "id": "v_1"}, {**ROW, "id": "w_0", "video_path": "w.mp4"}]
    questions = load_longvideobench(write(tmp_path, rows))
    assert needed_videos(questions) == ["v.mp4", "w.mp4"]
    (tmp_path / "v.mp4").touch()
    there, missing = with_videos(questions, tmp_path)
    assert [question.id for question in there] == ["v_0", "v_1"]
    assert missing == ["w.mp4"]


def test_a_missing_file_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"put lvb_val\.json there \(from the data set longvideobench"):
        load_longvideobench(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"duration": 0}, "row 1: duration: Input should be greater than 0"),
        ({"candidates": ["one"]}, "row 1: candidates"),
        ({"position": ["x"]}, r"row 1: position\.0"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        load_longvideobench(write(tmp_path, [ROW, {**ROW, **change}]))


def test_an_answer_that_is_none_of_the_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="option 2 of 2"):
        load_longvideobench(write(tmp_path, [{**ROW, "correct_choice": 2}]))


def test_a_subset_knows_its_labels(tmp_path: Path) -> None:
    questions = load_longvideobench(write(tmp_path, [ROW]))
    with pytest.raises(InputError, match="legal are 15"):
        subset(questions, labels={"duration_group": ["60"]})
    with pytest.raises(InputError, match="the labels are category, duration_group, level, topic"):
        subset(questions, labels={"group": ["60"]})
    with pytest.raises(InputError, match="at least 1"):
        subset(questions, limit=0)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "lvb_val.json").write_text("not json")
    with pytest.raises(DatasetError, match="line 1: not JSON"):
        load_longvideobench(tmp_path)

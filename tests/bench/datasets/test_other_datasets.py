"""The other data sets, on small files of the published form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest

from bench.accuracy.run.arguments import chosen_questions, parser
from bench.datasets.files import DatasetError, read_records
from bench.datasets.hourvideo import load_hourvideo
from bench.datasets.lv_haystack import load_lv_haystack
from bench.datasets.mlvu import load_mlvu
from bench.datasets.registry import LOADERS, load_questions
from bench.datasets.videomme import load_videomme
from hybrid.errors import InputError

PLOT = {
    "video": "movie_1.mp4",
    "duration": 246,
    "question": "What colour is the car?",
    "candidates": ["Blue", "Red", "Blue", "Green"],
    "answer": "Blue",
    "question_type": "plotQA",
}
MME = {
    "video_id": "001",
    "duration": "short",
    "domain": "Knowledge",
    "sub_category": "Law",
    "url": "https://example.org",
    "videoID": "abc",
    "question_id": "001-1",
    "task_type": "Counting Problem",
    "question": "How many?",
    "options": ["A. One.", "B. A. Two.", "Three", "D. A."],
    "answer": "C",
}
HAYSTACK: dict[str, Any] = {
    "video_id": "u-1",
    "question": "Where was the key?",
    "options": {"A": "On the table", "B": "In the bag"},
    "answer": "B",
    "frame_indexes_video": [300, 450],
    "video_metadata": {"frame_rate": 30.0, "video_duration": 900.5},
}
HOUR = {
    "canary": "never train on this",
    "u-2": {
        "video_metadata": {"duration_in_seconds": 3600.0},
        "benchmark_dataset": [
            {
                "qid": "q1",
                "task": "reasoning/temporal",
                "question": "What came first?",
                "mcq_test": "A. one\nB. two\nC) three\n(D) four\nE: five",
                "correct_answer_label": "D",
                "relevant_timestamps": "0:01:05 - 0:02:00",
            },
            {
                "qid": "q3",
                "task": "reasoning/predictive",
                "question": "What will be done next?",
                "mcq_test": "A. one\nB. two\nC. three\nD. four\nE. five",
                "correct_answer_label": "A",
                "relevant_timestamps": "0:5:10-0:06:00",
            },
            {
                "qid": "q2",
                "task": "reasoning/spatial/layout",
                "question": "Which picture?",
                "mcq_test": None,
                "correct_answer_label": "A",
            },
        ],
    },
}


def test_mlvu_choices_and_free_text(tmp_path: Path) -> None:
    odd = {**PLOT, "answer": "Black"}
    (tmp_path / "1_plotQA.json").write_text(json.dumps([PLOT, odd]))
    summary = {key: value for key, value in PLOT.items() if key != "candidates"}
    (tmp_path / "9_summary.json").write_text(json.dumps([summary]))
    choice, unlisted, free = load_mlvu(tmp_path)
    assert (choice.id, choice.video, choice.answer) == ("1_plotQA_0", "1_plotQA/movie_1.mp4", 2)
    assert (unlisted.answer, unlisted.labels["answer_listed"]) == (None, "no")
    assert (free.options, free.answer, free.reference) == ((), None, "Blue")
    assert len(load_mlvu(tmp_path / "9_summary.json")) == 1


def test_videomme_from_json_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "videomme.json").write_text(json.dumps([MME]))
    parquet.write_table(pyarrow.Table.from_pylist([MME]), tmp_path / "mme.parquet")
    (question,) = load_videomme(tmp_path)
    assert load_videomme(tmp_path / "mme.parquet") == [question]
    assert question.options == ("One.", "A. Two.", "Three", "A.")
    assert (question.answer, question.video) == (2, "abc.mp4")
    (tmp_path / "videomme.json").write_text(json.dumps([{**MME, "answer": "E"}]))
    with pytest.raises(DatasetError, match="E is none of 4 options"):
        load_videomme(tmp_path)


def test_lv_haystack_as_rows_columns_and_parquet(tmp_path: Path) -> None:
    columns = {key: [value] for key, value in HAYSTACK.items()}
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    folder = tmp_path / "tiny"
    folder.mkdir()
    parquet.write_table(pyarrow.Table.from_pylist([HAYSTACK]), folder / "tiny-0.parquet")
    (question,) = load_lv_haystack(tmp_path / "columns.json")
    assert load_lv_haystack(folder) == [question]
    assert question.moments_seconds == (10.0, 15.0)
    assert (question.answer, question.duration_seconds) == (1, 900.5)


def test_lv_haystack_refuses_frames_of_a_clip(tmp_path: Path) -> None:
    old = {**HAYSTACK, "frame_indexes": [1]}
    del old["frame_indexes_video"]
    (tmp_path / "old.json").write_text(json.dumps([old]))
    with pytest.raises(DatasetError, match="from the start of a clip"):
        load_lv_haystack(tmp_path / "old.json")
    with pytest.raises(DatasetError, match="put a split's Parquet file there"):
        load_lv_haystack(tmp_path / "nothing")


def test_hourvideo_reads_text_options_and_refuses_to_guess(tmp_path: Path) -> None:
    file = tmp_path / "dev_v1.0_annotations.json"
    file.write_text(json.dumps(HOUR))
    question, future = load_hourvideo(tmp_path)
    assert question.options == ("one", "two", "three", "four", "five")
    assert (question.answer, question.spans_seconds, question.until_seconds) == (3, ((65.0, 120.0),), None)
    # What comes next is the answer, and no evidence that a method is to find.
    assert (future.id, future.spans_seconds, future.until_seconds) == ("q3", (), 310.0)
    video: Any = json.loads(json.dumps(HOUR))
    video["u-2"]["benchmark_dataset"][0]["mcq_test"] = "one / two / three / four / five"
    file.write_text(json.dumps(video))
    with pytest.raises(DatasetError, match="found none"):
        load_hourvideo(tmp_path)
    video = json.loads(json.dumps(HOUR))
    video["u-2"]["benchmark_dataset"][1]["relevant_timestamps"] = "at the end"
    file.write_text(json.dumps(video))
    with pytest.raises(DatasetError, match=r"q3: relevant_timestamps is 'at the end'; .* must be H:M:S"):
        load_hourvideo(tmp_path)


def test_what_comes_next_is_not_asked_of_a_whole_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dev_v1.0_annotations.json").write_text(json.dumps(HOUR))
    given = ["--dataset", "hourvideo", "--data", str(tmp_path), "--videos", str(tmp_path), "--archive", "a"]
    parsed = parser(None).parse_args([*given, "--method", "uniform", "--out", "o"])
    assert [question.id for question in chosen_questions(parsed)] == ["q1"]
    assert "1 questions ask what comes next" in capsys.readouterr().err


def test_gens_video_150k_says_what_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"video": "x", "scores": []}]))
    for place in (tmp_path, tmp_path / "a.json"):
        with pytest.raises(DatasetError, match=r"not documented.* of \S*a\.json are: video, scores\."):
            load_questions("gens-video-150k", place)
    with pytest.raises(DatasetError, match=r"no annotation file at \S*gone; put .* yaolily/GenS-Video-150K"):
        load_questions("gens-video-150k", tmp_path / "gone")


def test_an_unknown_data_set_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="longvideobench, mlvu, videomme, hourvideo, lv-haystack, gens-video-150k"):
        load_questions("activitynet", tmp_path)


@pytest.mark.parametrize("name", LOADERS)
def test_nothing_at_the_place_is_an_error_with_advice(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"put "):
        load_questions(name, tmp_path)


def test_tables_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2], "b": [1]}')
    with pytest.raises(DatasetError, match="columns of different lengths"):
        read_records(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[1, 2]")
    with pytest.raises(DatasetError, match="no list of questions"):
        read_records(tmp_path / "b.json")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not a Parquet file"):
        read_records(tmp_path / "c.parquet")
    (tmp_path / "d.json").write_text('{"a": 1}\n{"a": 2}\n')
    assert read_records(tmp_path / "d.json") == [{"a": 1}, {"a": 2}]

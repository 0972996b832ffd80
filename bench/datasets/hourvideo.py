"""HourVideo (arXiv 2411.04998): ``dev_v1.0_annotations.json``, 1,182 questions to 50 videos of Ego4D.

As the authors' code reads it (keshik6/HourVideo): an object with the uid of each video as key, and as value
``video_metadata`` (``duration_in_seconds``) and ``benchmark_dataset``, a list of ``qid``, ``task``, ``question``,
``mcq_test`` (the five options as one text, or nothing where they are pictures), ``correct_answer_label`` and
``relevant_timestamps`` ("H:M:S-H:M:S"). Entries that are no videos, as the canary string that keeps the file out
of training data, are left alone.

How ``mcq_test`` separates its options is not documented and the file was not at hand when this was written: lines
that begin with a letter A to E are taken as options, and where there are not five of them the loader refuses
rather than guess. Only the first stretch of ``relevant_timestamps`` is certain; where the rest does not read as
"start-end", it is left out. Questions with pictures as options are left out, as no text can be asked.

Questions of the task ``reasoning/predictive`` ask what comes next: the authors' code shows the video up to the
beginning of ``relevant_timestamps`` only (``until_seconds``), and what lies there is the answer, no evidence.

Label: ``task``. Videos are ``<uid>.mp4``.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from bench.datasets.files import DatasetError, Row, find_file, read_json, validate
from bench.datasets.question import Question

__all__ = ["FILES", "load_hourvideo"]

FILES = ("dev_v1.0_annotations.json", "v1.0_release/json/dev_v1.0_annotations.json")
SOURCE = "from the data set HourVideo/HourVideo on Hugging Face"
OPTION = re.compile(r"^\s*[(]?([A-E])[).:]\s*(.*\S)\s*$", re.MULTILINE)
_TIME = r"(\d+):(\d{1,2}):(\d{1,2})"
STRETCH = re.compile(rf"{_TIME}\s*-\s*{_TIME}")
BEGINNING = re.compile(rf"\s*{_TIME}")
PREDICTIVE = "reasoning/predictive"
LETTERS = "ABCDE"


class HourVideoMetadata(Row):
    """What is known of the video."""

    duration_in_seconds: float = Field(gt=0)


class HourVideoRow(Row):
    """One question."""

    qid: str | int
    task: str
    question: str
    mcq_test: str | None = None
    correct_answer_label: str = Field(pattern="^[A-E]$")
    relevant_timestamps: str | None = None


class HourVideoEntry(Row):
    """One video with its questions; the questions are checked one by one."""

    video_metadata: HourVideoMetadata
    benchmark_dataset: list[object]


def load_hourvideo(path: Path) -> list[Question]:
    """Read the questions that have text as options.

    Args:
        path: ``dev_v1.0_annotations.json`` or the folder that holds it.

    Raises:
        DatasetError: the file is missing, damaged or of another form, or a question's options cannot be told apart.
    """
    file = find_file(path, FILES, what="HourVideo", source=SOURCE)
    document = read_json(file)
    if not isinstance(document, dict):
        raise DatasetError(f"{file} holds no object with videos as keys")
    questions = []
    for uid, record in document.items():
        if not isinstance(record, dict) or "benchmark_dataset" not in record:
            continue
        entry = validate(HourVideoEntry, record, file=file, line=uid)
        rows = [
            validate(HourVideoRow, row, file=file, line=f"{uid}/{i}") for i, row in enumerate(entry.benchmark_dataset)
        ]
        questions += [_question(uid, entry, row, file) for row in rows if row.mcq_test]
    if not questions:
        raise DatasetError(f"{file} holds no question with text as options")
    return questions


def _question(uid: str, entry: HourVideoEntry, row: HourVideoRow, file: Path) -> Question:
    found = OPTION.findall(row.mcq_test or "")
    if [letter for letter, _ in found] != list(LETTERS):
        letters = ", ".join(letter for letter, _ in found) or "none"
        raise DatasetError(
            f"{file}, question {row.qid}: mcq_test must hold five lines that begin with A to E; found {letters}. "
            "If the published file separates options in another way, bench/datasets/hourvideo.py has to learn it"
        )
    until = _beginning(row, file) if row.task == PREDICTIVE else None
    stretches = STRETCH.findall(row.relevant_timestamps or "") if until is None else []
    return Question(
        id=str(row.qid),
        video=f"{uid}.mp4",
        question=row.question,
        options=tuple(text for _, text in found),
        answer=LETTERS.index(row.correct_answer_label),
        duration_seconds=entry.video_metadata.duration_in_seconds,
        spans_seconds=tuple(
            (_seconds(*s[:3]), _seconds(*s[3:])) for s in stretches if _seconds(*s[:3]) <= _seconds(*s[3:])
        ),
        until_seconds=until,
        labels={"task": row.task},
    )


def _beginning(row: HourVideoRow, file: Path) -> float:
    found = BEGINNING.match(row.relevant_timestamps or "")
    if found is None:
        raise DatasetError(
            f"{file}, question {row.qid}: relevant_timestamps is {row.relevant_timestamps!r}; what is asked of the "
            f"task {PREDICTIVE} is what comes after its beginning, which must be H:M:S"
        )
    return _seconds(*found.groups())


def _seconds(hours: str, minutes: str, seconds: str) -> float:
    return 3600.0 * int(hours) + 60.0 * int(minutes) + int(seconds)

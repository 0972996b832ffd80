"""Video-MME (arXiv 2405.21075): 2,700 questions to 900 videos, as Parquet or as a JSON list of the same fields.

Fields as published: ``video_id``, ``duration`` (short, medium, long), ``domain``, ``sub_category``, ``url``,
``videoID``, ``question_id``, ``task_type``, ``question``, ``options`` (each with its letter: "A. Apples."),
``answer`` (a letter). The video of a question is ``data/<videoID>.mp4``. Neither lengths in seconds nor moments of
evidence are published.

Labels: ``duration``, ``domain``, ``sub_category``, ``task_type``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.datasets.files import DatasetError, Row, find_file, read_records, validate
from bench.datasets.question import Question

__all__ = ["FILES", "load_videomme"]

FILES = ("videomme/test-00000-of-00001.parquet", "test-00000-of-00001.parquet", "videomme.json")
SOURCE = "from the data set lmms-lab/Video-MME on Hugging Face"
LETTER = re.compile(r"\s*([A-Z])\s*[.):]\s*")


class VideoMMERow(Row):
    """The fields that are read."""

    videoID: str
    question_id: str
    duration: Literal["short", "medium", "long"]
    domain: str
    sub_category: str
    task_type: str
    question: str
    options: list[str] = Field(min_length=2)
    answer: str = Field(pattern="^[A-Z]$")


def load_videomme(path: Path) -> list[Question]:
    """Read the questions.

    Args:
        path: the annotation file (.parquet or .json), or the folder that holds it.

    Raises:
        DatasetError: the file is missing, damaged or of another form.
    """
    file = find_file(path, FILES, what="Video-MME", source=SOURCE)
    rows = [validate(VideoMMERow, record, file=file, line=i) for i, record in enumerate(read_records(file))]
    return [_question(row, file) for row in rows]


def _question(row: VideoMMERow, file: Path) -> Question:
    answer = ord(row.answer) - ord("A")
    if answer >= len(row.options):
        raise DatasetError(
            f"{file}, question {row.question_id}: the answer {row.answer} is none of {len(row.options)} options"
        )
    return Question(
        id=row.question_id,
        video=f"{row.videoID}.mp4",
        question=row.question,
        options=tuple(_without_letter(option, index) for index, option in enumerate(row.options)),
        answer=answer,
        labels={
            "duration": row.duration,
            "domain": row.domain,
            "sub_category": row.sub_category,
            "task_type": row.task_type,
        },
    )


def _without_letter(option: str, index: int) -> str:
    """The option without its own letter; one that begins with another letter keeps it, it is part of the text."""
    match = LETTER.match(option)
    if match is None or ord(match[1]) - ord("A") != index:
        return option
    return option[match.end() :]

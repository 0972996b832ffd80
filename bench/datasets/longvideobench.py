"""LongVideoBench (arXiv 2407.15754): ``lvb_val.json`` as published, 1,337 questions to 753 videos.

``position`` lists the moments that a question refers to, as frame numbers of a timeline with 24 frames
a second, whatever the video's own rate: seconds = position / 24. (Scripts that divide by the video's rate put
the moments of most videos in the wrong place.) A moment more than a second after the end of its video is
a slip of the annotation and is left out; in the published file that is one of 2,396.

Labels: ``duration_group`` (15, 60, 600, 3600), ``category``, ``topic``, ``level``.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bench.datasets.files import Row, find_file, read_records, validate
from bench.datasets.question import Question

__all__ = ["FILES", "TIMELINE_RATE", "load_longvideobench"]

FILES = ("lvb_val.json",)
SOURCE = "from the data set longvideobench/LongVideoBench on Hugging Face"
TIMELINE_RATE = 24.0
END_TOLERANCE_SECONDS = 1.0


class LongVideoBenchRow(Row):
    """The fields that are read."""

    id: str
    video_path: str
    question: str
    candidates: list[str] = Field(min_length=2)
    correct_choice: int = Field(ge=0)
    position: list[int]
    topic_category: str
    question_category: str
    level: str
    duration_group: int
    duration: float = Field(gt=0)


def load_longvideobench(path: Path) -> list[Question]:
    """Read the questions of the validation set.

    Args:
        path: ``lvb_val.json`` or the folder that holds it.

    Raises:
        DatasetError: the file is missing, damaged or of another form.
    """
    file = find_file(path, FILES, what="LongVideoBench", source=SOURCE)
    rows = [validate(LongVideoBenchRow, record, file=file, line=i) for i, record in enumerate(read_records(file))]
    return [_question(row) for row in rows]


def _question(row: LongVideoBenchRow) -> Question:
    seconds = [position / TIMELINE_RATE for position in row.position]
    return Question(
        id=row.id,
        video=row.video_path,
        question=row.question,
        options=tuple(row.candidates),
        answer=row.correct_choice,
        duration_seconds=row.duration,
        moments_seconds=tuple(second for second in seconds if second <= row.duration + END_TOLERANCE_SECONDS),
        labels={
            "duration_group": str(row.duration_group),
            "category": row.question_category,
            "topic": row.topic_category,
            "level": row.level,
        },
    )

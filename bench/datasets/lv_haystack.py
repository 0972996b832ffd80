"""LV-Haystack (T*, arXiv 2504.02259): questions to videos of Ego4D with the frames that answer them.

As the authors' code reads it (LVHaystack/LongVideoHaystack on Hugging Face, mll-lab-nu/TStar): ``video_id``,
``question``, ``options`` (letter to text), ``answer`` (a letter), ``frame_indexes_video`` (native frames of the
whole video that hold the evidence) and ``video_metadata`` with ``frame_rate`` and ``video_duration``. The authors
divide by the rate that OpenCV reads from the video; the annotation's own ``frame_rate`` is taken here, so that no
video is needed.

An older form of the file has ``frame_indexes``, which count from the start of a clip; it is refused. The videos are
``<video_id>.mp4``. Ids are made of video and place in the file.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bench.datasets.files import DatasetError, Row, read_records, validate
from bench.datasets.question import Question

__all__ = ["load_lv_haystack"]

SOURCE = "from the data set LVHaystack/LongVideoHaystack on Hugging Face"


class HaystackMetadata(Row):
    """What is known of the video."""

    frame_rate: float = Field(gt=0)
    video_duration: float | None = Field(default=None, gt=0)


class HaystackRow(Row):
    """One question."""

    video_id: str
    question: str
    options: dict[str, str | None]
    answer: str
    frame_indexes_video: list[int]
    video_metadata: HaystackMetadata


def load_lv_haystack(path: Path) -> list[Question]:
    """Read the questions of one split.

    Args:
        path: the split's file (.parquet or .json), or a folder that holds nothing but its Parquet files.

    Raises:
        DatasetError: there is no file, or one is damaged or of another form.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not files:
        raise DatasetError(
            f"LV-Haystack: there is no annotation file at {path}; put a split's Parquet file there ({SOURCE})"
        )
    questions: list[Question] = []
    for file in files:
        for i, record in enumerate(read_records(file)):
            if "frame_indexes_video" not in record and "frame_indexes" in record:
                raise DatasetError(
                    f"{file} has frame_indexes, which count from the start of a clip: this is the older form. "
                    f"Take the one with frame_indexes_video ({SOURCE})"
                )
            row = validate(HaystackRow, record, file=file, line=i)
            questions.append(_question(row, f"{row.video_id}_{len(questions)}", file))
    return questions


def _question(row: HaystackRow, name: str, file: Path) -> Question:
    options = {letter: text for letter, text in row.options.items() if text is not None}
    if row.answer not in options:
        raise DatasetError(f"{file}, question {name}: the answer {row.answer!r} is none of {', '.join(options)}")
    return Question(
        id=name,
        video=f"{row.video_id}.mp4",
        question=row.question,
        options=tuple(options.values()),
        answer=list(options).index(row.answer),
        duration_seconds=row.video_metadata.video_duration,
        moments_seconds=tuple(index / row.video_metadata.frame_rate for index in row.frame_indexes_video),
    )

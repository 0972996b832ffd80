"""MLVU (arXiv 2406.04264): the nine files of the development set, ``1_plotQA.json`` to ``9_summary.json``.

As in the authors' repository (JUNJIE99/MLVU, ``data/``): each file is a list of ``video``, ``duration`` (seconds),
``question``, ``candidates``, ``answer`` (the text of the right candidate) and ``question_type``; the last two
files ask for free text and have no candidates. Videos lie in a folder a file, of the file's name
(``1_plotQA/movie101_66.mp4``). The annotators' moments of evidence are not published.

In two published questions the answer is none of the candidates: they have no right option here, and the label
``answer_listed`` says "no" ("yes" for the others, "free" for free text). Where candidates repeat, the authors'
evaluation takes the last of them as the right one, and so does this.

Labels: ``question_type``, ``task`` (the file's name), ``answer_listed``. The ids are made of task and place in the
file. The test set has another form and is not read.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bench.datasets.files import DatasetError, Row, read_records, validate
from bench.datasets.question import Question

__all__ = ["TASKS", "load_mlvu"]

CHOICE_TASKS = (
    "1_plotQA",
    "2_needle",
    "3_ego",
    "4_count",
    "5_order",
    "6_anomaly_reco",
    "7_topic_reasoning",
)
FREE_TASKS = ("8_sub_scene", "9_summary")
TASKS = (*CHOICE_TASKS, *FREE_TASKS)
SOURCE = "from MLVU/MVLU on Hugging Face, folder MLVU/json, or JUNJIE99/MLVU on GitHub, folder data"


class MLVURow(Row):
    """The fields that are read."""

    video: str
    duration: float = Field(gt=0)
    question: str
    candidates: tuple[str, ...] = ()
    answer: str
    question_type: str


def load_mlvu(path: Path) -> list[Question]:
    """Read the questions of the development set.

    Args:
        path: the folder of the nine files, or of some of them, or one of them.

    Raises:
        DatasetError: there is none of the files, or one is damaged or of another form.
    """
    files = [path] if path.is_file() else [path / f"{task}.json" for task in TASKS]
    found = [file for file in files if file.is_file()]
    if not found:
        raise DatasetError(
            f"MLVU: there is no annotation file in {path}; put {TASKS[0]}.json and so on there ({SOURCE})"
        )
    return [question for file in found for question in _questions(file)]


def _questions(file: Path) -> list[Question]:
    task = file.stem
    rows = [validate(MLVURow, record, file=file, line=i) for i, record in enumerate(read_records(file))]
    return [
        Question(
            id=f"{task}_{i}",
            video=f"{task}/{row.video}",
            question=row.question,
            options=row.candidates,
            answer=_answer(row),
            reference=None if row.candidates else row.answer,
            duration_seconds=row.duration,
            labels={"task": task, "question_type": row.question_type, "answer_listed": _listed(row)},
        )
        for i, row in enumerate(rows)
    ]


def _answer(row: MLVURow) -> int | None:
    """The last of equal candidates is the right one, as the authors' evaluation has it."""
    indices = [index for index, candidate in enumerate(row.candidates) if candidate == row.answer]
    return indices[-1] if indices else None


def _listed(row: MLVURow) -> str:
    return "yes" if row.answer in row.candidates else "no" if row.candidates else "free"

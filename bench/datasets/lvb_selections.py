"""Frames that others chose for the questions of LongVideoBench, as their authors published them.

``published_selections.jsonl``: a line a question, in the order of ``lvb_val.json``: the video's rate (inferred
from the indices; ``fps_exact`` is false where it could only be bounded) and number of frames, the number of AKS's
candidates, and native frame indices of AKS with 64 and 32 frames and of TSPO with 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from bench.datasets.files import DatasetError, Row, find_file, read_records, validate
from bench.datasets.question import Question
from hybrid.values import FloatArray, IntArray

__all__ = ["PublishedSelections", "load_published_selections"]

FILES = ("published_selections.jsonl",)
METHODS = ("aks_64", "aks_32", "tspo_64")


class PublishedSelections(Row):
    """The published selections for one question. Frame numbers are native; seconds = number / fps."""

    id: str
    fps: float = Field(gt=0)
    fps_exact: bool
    total_frames: int = Field(gt=0)
    candidates: int = Field(gt=0)
    aks_64: list[int]
    aks_32: list[int]
    tspo_64: list[int]

    def seconds(self, method: str) -> FloatArray:
        """Times of a method's frames (``aks_64``, ``aks_32``, ``tspo_64``): float64."""
        frames: list[int] = getattr(self, method)
        return np.array(frames, dtype=np.float64) / self.fps

    def candidate_frames(self) -> IntArray:
        """Native numbers of AKS's candidates: every int(fps)-th frame."""
        return np.arange(self.candidates, dtype=np.int64) * int(self.fps)

    def uniform_seconds(self, frames: int) -> FloatArray:
        """Times of the uniform baseline: all candidates if they are no more, else evenly from first to last frame."""
        if self.candidates <= frames:
            return self.candidate_frames() / self.fps
        return np.linspace(0, self.total_frames - 1, frames).astype(np.int64) / self.fps


def load_published_selections(path: Path, questions: Sequence[Question]) -> list[PublishedSelections]:
    """Read the selections for the questions, in their order.

    Args:
        path: the file, or the folder that holds it.
        questions: of LongVideoBench, all of them.

    Raises:
        DatasetError: the file is missing or damaged, or its lines are not those of the questions.
    """
    file = find_file(path, FILES, what="published selections", source="a file of this project's developers")
    rows = [validate(PublishedSelections, record, file=file, line=i) for i, record in enumerate(read_records(file))]
    if [row.id for row in rows] != [question.id for question in questions]:
        raise DatasetError(f"{file} does not hold one line for each of the {len(questions)} questions, in their order")
    return rows

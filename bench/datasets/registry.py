"""All data sets by name. A new one = one file with a loader, and its line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.datasets.gens_video_150k import load_gens_video_150k
from bench.datasets.hourvideo import load_hourvideo
from bench.datasets.longvideobench import load_longvideobench
from bench.datasets.lv_haystack import load_lv_haystack
from bench.datasets.mlvu import load_mlvu
from bench.datasets.question import Question, check_ids
from bench.datasets.videomme import load_videomme
from hybrid.errors import InputError

__all__ = ["LOADERS", "load_questions"]

LOADERS: dict[str, Callable[[Path], list[Question]]] = {
    "longvideobench": load_longvideobench,
    "mlvu": load_mlvu,
    "videomme": load_videomme,
    "hourvideo": load_hourvideo,
    "lv-haystack": load_lv_haystack,
    "gens-video-150k": load_gens_video_150k,
}


def load_questions(name: str, path: Path) -> list[Question]:
    """The questions of a data set.

    Args:
        name: see :data:`LOADERS`.
        path: its annotation file, or the folder that holds it.

    Raises:
        InputError: there is no data set of that name, or two of its questions have the same id.
        DatasetError: its file is missing, damaged, or of a form that is not known.
    """
    if name not in LOADERS:
        raise InputError(f"there is no data set {name!r}; legal are {', '.join(LOADERS)}")
    questions = LOADERS[name](path)
    check_ids(questions)
    return questions

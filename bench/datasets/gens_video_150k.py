"""GenS-Video-150K (arXiv 2503.09146): the name is kept, the loader refuses.

The authors describe a sample as {video, question, answer, scored relevant frames} with scores 0 to 5, and publish
the files as ``yaolily/GenS-Video-150K`` on Hugging Face. The names of the keys, and whether frames are given as
numbers, seconds or spans, are nowhere documented, and the files were not at hand when this was written. A loader
made from a guess would read wrong times without a sign of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from bench.datasets.files import DatasetError, read_records

__all__ = ["load_gens_video_150k"]


def load_gens_video_150k(place: Path) -> NoReturn:
    """Say what is missing, and which keys the caller's file has, if there is one.

    Raises:
        DatasetError: always.
    """
    keys = ""
    if place.is_file():
        records = read_records(place)
        keys = f" The keys of {place} are: {', '.join(records[0]) if records else 'none, it is empty'}."
    raise DatasetError(
        "GenS-Video-150K cannot be read: the keys of its files are not documented and were not known when this was "
        f"written.{keys} To add it, state in bench/datasets/gens_video_150k.py how video, question, answer and scored "
        "frames are named, and in which unit the frames are given"
    )

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

KINDS = ("*.json", "*.jsonl", "*.parquet")
SOURCE = "from the data set yaolily/GenS-Video-150K on Hugging Face"


def load_gens_video_150k(path: Path) -> NoReturn:
    """Say what is missing: the file, or what its keys mean, which are listed.

    Raises:
        DatasetError: always.
    """
    found = [path] if path.is_file() else sorted(file for kind in KINDS for file in path.glob(kind))
    if not found:
        raise DatasetError(
            f"GenS-Video-150K: there is no annotation file at {path}; put one there ({SOURCE}). Its keys, which are "
            "not documented, are listed then; without them it cannot be read"
        )
    records = read_records(found[0])
    keys = ", ".join(records[0]) if records else "none, it is empty"
    raise DatasetError(
        "GenS-Video-150K cannot be read: the keys of its files are not documented and were not known when this was "
        f"written. The keys of {found[0]} are: {keys}. To add it, state in bench/datasets/gens_video_150k.py how "
        "video, question, answer and scored frames are named, and in which unit the frames are given"
    )

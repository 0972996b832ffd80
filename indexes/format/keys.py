"""The names that everything in an archive goes by: backends, video ids, and the keys of vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.values import IntArray

__all__ = [
    "BACKENDS",
    "VIDEO_ID",
    "BackendName",
    "Committed",
    "RunProofs",
    "VectorKey",
    "check_backend",
    "check_video_id",
    "key_of",
    "keys_of",
]

BackendName = Literal["faiss", "lancedb"]
BACKENDS: tuple[BackendName, ...] = ("faiss", "lancedb")

VIDEO_ID = "[0-9a-f]{32}"
"""A content id, as a regular expression."""

_HEXADECIMAL = re.compile(r"[0-9a-f]{1,64}")


def check_video_id(video_id: str) -> str:
    """Return the id, which becomes part of paths and filters, if it is a legal one.

    Raises:
        InputError: it is not 32 lower-case hexadecimal digits.
    """
    if not re.fullmatch(VIDEO_ID, video_id):
        raise InputError(f"video id is {video_id!r}; it must be 32 lower-case hexadecimal digits")
    return video_id


@dataclass(frozen=True, slots=True, order=True)
class VectorKey:
    """The name of one video's vectors.

    Attributes:
        video_id: lower-case hexadecimal content id of the video.
        generation: lower-case hexadecimal; differs between two indexes of the same video, so that
            a new one can be written beside the one in use.
    """

    video_id: str
    generation: str

    def __post_init__(self) -> None:
        check_video_id(self.video_id)
        if not _HEXADECIMAL.fullmatch(self.generation):
            raise InputError(f"generation is {self.generation!r}; it must be 1 to 64 lower-case hexadecimal digits")

    def __str__(self) -> str:
        return f"{self.video_id}-{self.generation}"


def key_of(video_id: object, generation: object) -> VectorKey | None:
    """The key that two stored names make; None where they are damaged."""
    try:
        return VectorKey(str(video_id), str(generation))
    except InputError:
        return None


def keys_of(video_ids: Sequence[object], generations: Sequence[object]) -> dict[int, VectorKey]:
    """The keys that columns of stored names make, by their index, without those that are damaged."""
    keys = map(key_of, video_ids, generations)
    return {index: key for index, key in enumerate(keys) if key is not None}


class RunProofs(NamedTuple):
    """What some runs of rows are known by, so that they can be compared without reading the rest of the vectors.

    Attributes:
        lengths: int64 [R], rows of each run, one run behind the other.
        checksums: uint64 [R], :func:`indexes.stores.vectors.run_checksums` of each.
    """

    lengths: IntArray
    checksums: npt.NDArray[np.uint64]


class Committed(NamedTuple):
    """What is known of committed vectors, so that others that are read in their stead are recognised.

    Attributes:
        vectors_hash: what writing them returned, or :func:`indexes.stores.vectors.checksum_vectors` of the same.
        rows: how many there are.
    """

    vectors_hash: str
    rows: int


def check_backend(backend: str) -> None:
    """Refuse a name that is not a backend's.

    Raises:
        InputError: it is not one of :data:`BACKENDS`.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}; legal are {', '.join(map(repr, BACKENDS))}")

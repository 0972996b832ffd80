"""The files of the approximate index: ``approximate/<dimension>/``, all of them copies that may be deleted.

A codebook and a segment carry the BLAKE3 of their content in their name, so one that is cut or altered
is known by that. ``index.json``, replaced by one rename, says which codebook counts. A segment says
of itself which videos and generations it covers; so one of a video that was removed or indexed anew
is merely not asked for, and whatever no sound segment covers is searched exactly.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load, save

from hybrid.errors import IndexDamagedError
from hybrid.storage.atomic import (
    Stamp,
    file_stamp,
    make_folder,
    remove_file,
    remove_temporaries,
    write_atomically,
    write_unlocked,
)
from hybrid.storage.foreign_json import read_json, read_note
from hybrid.values import Float32Array
from indexes.format.manifest import Manifest

__all__ = ["APPROXIMATE_VERSION", "MISSING", "ApproximateFiles", "Pointer", "Segment", "dimensions_of", "name_of"]

APPROXIMATE_VERSION = 1

MISSING = (0, 0, 0)

_META = "hybrid_approximate"
_DIGITS = 8
_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Content of ``index.json``.

    Attributes:
        codebook: id of the codebook that counts.
        trained_frames: how many frames the archive had when the codebook was made.
    """

    codebook: str
    trained_frames: int


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The codes of some videos.

    Attributes:
        videos: ``<video id>-<generation>`` of each.
        frames: int32 [V]: rows of each.
        units: int32 [V]: units of each.
        starts: int32 [U]: the first row of each unit within its video.
        codes: uint8 [U, code_bytes].
        checksums: uint64 [U], of the vectors of each unit (:func:`indexes.stores.vectors.run_checksums`), so that those
            that are compared exactly are known to be what was written; None in segments of early versions.
    """

    videos: tuple[str, ...]
    frames: npt.NDArray[np.int32]
    units: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    codes: npt.NDArray[np.uint8]
    checksums: npt.NDArray[np.uint64] | None = None

    def check(self) -> None:
        """Raise ValueError if the parts do not fit each other."""
        if not (
            len(self.videos) == len(self.frames) == len(self.units)
            and int(self.units.sum()) == len(self.starts) == len(self.codes)
            and self.codes.ndim == 2
            and (self.checksums is None or self.checksums.shape == self.starts.shape)
            and (self.units > 0).all()
            and (self.starts >= 0).all()
            and (self.starts < np.repeat(self.frames, self.units)).all()
        ):
            raise ValueError("its parts do not fit each other")


class ApproximateFiles:
    """The files for the vectors of one dimension. Knows nothing of FAISS."""

    def __init__(self, archive: Path, dimension: int) -> None:
        """Nothing is made by this.

        Args:
            archive: the archive's folder.
            dimension: values a vector.
        """
        self.folder = archive / "approximate" / str(dimension)

    def pointer(self) -> Pointer | None:
        """Which codebook counts; None if there is no approximate index.

        Raises:
            IndexDamagedError: ``index.json`` cannot be read, or is of a newer version.
        """
        path = self.folder / "index.json"
        try:
            data = read_json(path)
            if data["format_version"] != APPROXIMATE_VERSION:
                raise IndexDamagedError(
                    f"{path}: format version is {data['format_version']!r}, and this version of hybrid reads "
                    f"{APPROXIMATE_VERSION}"
                )
            return Pointer(str(data["codebook"]), int(data["trained_frames"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise IndexDamagedError(f"{path}: cannot be read: {exc}") from exc

    def point(self, pointer: Pointer) -> None:
        """Make a codebook the one that counts, durably."""
        content = {
            "format_version": APPROXIMATE_VERSION,
            "codebook": pointer.codebook,
            "trained_frames": pointer.trained_frames,
        }
        write_atomically(self.folder / "index.json", (json.dumps(content, indent=2) + "\n").encode())

    def write_codebook(self, centroids: Float32Array, dimension: int) -> str:
        """Store centroids; their id."""
        data = _save({"centroids": centroids}, {"dimension": dimension})
        name = _digest(data)
        write_atomically(self.folder / f"codebook-{name}{_SUFFIX}", data)
        return name

    def codebook(self, name: str) -> tuple[Float32Array, int]:
        """The centroids of a codebook, and the dimension of its vectors.

        Raises:
            IndexDamagedError: it is missing or altered.
        """
        path = self.folder / f"codebook-{name}{_SUFFIX}"
        tensors, rest = _load(path, name)
        try:
            return tensors["centroids"], int(rest["dimension"])
        except (KeyError, TypeError, ValueError) as exc:
            raise IndexDamagedError(f"{path}: not a codebook: {exc}") from exc

    def segments(self, codebook: str) -> list[str]:
        """The names of the segments that a codebook has, in order."""
        return sorted(name for name in self.names() if name.startswith(f"segment-{codebook}-"))

    def names(self) -> list[str]:
        """The names of all files."""
        try:
            return os.listdir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def write_segment(self, codebook: str, segment: Segment) -> str:
        """Store a segment durably; its name."""
        segment.check()
        tensors: dict[str, npt.NDArray[Any]] = {
            "frames": segment.frames,
            "units": segment.units,
            "starts": segment.starts,
            "codes": segment.codes,
        }
        if segment.checksums is not None:
            tensors["checksums"] = segment.checksums
        data = _save(tensors, {"codebook": codebook, "videos": list(segment.videos)})
        name = f"segment-{codebook}-{_digest(data)}{_SUFFIX}"
        write_atomically(self.folder / name, data)
        return name

    def segment(self, name: str) -> Segment:
        """A segment by name.

        Raises:
            IndexDamagedError: it is missing or altered.
        """
        path = self.folder / name
        tensors, rest = _load(path, name.removesuffix(_SUFFIX).rpartition("-")[2])
        try:
            frames, units, starts = (tensors[part].astype(np.int32) for part in ("frames", "units", "starts"))
            checksums = tensors["checksums"].astype(np.uint64) if "checksums" in tensors else None
            videos, codes = tuple(map(str, rest["videos"])), tensors["codes"].astype(np.uint8)
            segment = Segment(videos, frames, units, starts, codes, checksums)
            segment.check()
        except (KeyError, TypeError, ValueError) as exc:
            raise IndexDamagedError(f"{path}: not a segment: {exc}") from exc
        return segment

    def write_queries(self, encoder: str, queries: Float32Array) -> None:
        """Store sample queries of an encoder (its key), for measuring recall."""
        self._put(f"queries-{encoder}{_SUFFIX}", _save({"queries": queries}, {}))

    def queries(self, encoder: str) -> Float32Array | None:
        """The sample queries of an encoder: float32 [Q, D]; None if there are none that can be read."""
        try:
            tensors = load((self.folder / f"queries-{encoder}{_SUFFIX}").read_bytes())
            return tensors["queries"].astype(np.float32)
        except (OSError, KeyError, ValueError, safetensors.SafetensorError):
            return None

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Store a small note."""
        self._put(name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())

    def json(self, name: str) -> dict[str, Any] | None:
        """A small note; None if there is none that can be read."""
        try:
            content = read_json(self.folder / name)
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def stamp(self, name: str) -> Stamp:
        """What changes when a file does; :data:`MISSING` if it is not there."""
        with contextlib.suppress(OSError):
            return file_stamp(self.folder / name)
        return MISSING

    def remove(self, name: str) -> None:
        """Delete a file; no error if there is none."""
        remove_file(self.folder / name)

    def _put(self, name: str, data: bytes) -> None:
        """Write a file without the lock: another process may clean up meanwhile, and then it is written again."""
        write_unlocked(self.folder / name, data)

    def clean(self) -> None:
        """Make the folder, and delete what killed writers left. Under the lock only."""
        make_folder(self.folder)
        remove_temporaries(self.folder)


def name_of(manifest: Manifest) -> str:
    """The name under which segments know the current vectors of a video."""
    return f"{manifest.video_id}-{manifest.generation}"


def dimensions_of(archive: Path) -> list[int]:
    """For which dimensions an archive has a folder of an approximate index."""
    with contextlib.suppress(OSError):
        return sorted(int(name) for name in os.listdir(archive / "approximate") if re.fullmatch("[0-9]{1,6}", name))
    return []


def _digest(data: bytes) -> str:
    return blake3.blake3(data).hexdigest(length=_DIGITS)


def _save(tensors: dict[str, npt.NDArray[Any]], rest: Mapping[str, Any]) -> bytes:
    content = {"format_version": APPROXIMATE_VERSION, **rest}
    # One entry only: safetensors writes several in an order that changes from run to run.
    data: bytes = save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        metadata={_META: json.dumps(content, sort_keys=True)},
    )
    return data


def _load(path: Path, digest: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    try:
        data = path.read_bytes()
        if _digest(data) != digest:
            raise IndexDamagedError(f"{path}: its content is not what was written")
        return load(data), read_note(data, _META)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as exc:
        raise IndexDamagedError(f"{path}: cannot be read: {exc}") from exc

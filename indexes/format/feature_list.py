"""Which frames of a video have stored features, and where: the list beside the file with the values.

What the fine stage's vision encoder made of a frame does not depend on any question, so it is kept.
One video may have the features of several checkpoints; each has a list and a file of values. The
list is replaced as a whole; what it does not name does not exist (docs/format.md).

This module knows the form of a list, not what the values mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import blake3
import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import load, save

from hybrid.errors import IndexDamagedError, InputError
from hybrid.storage.foreign_json import read_note
from hybrid.values import ByteArray, IntArray
from indexes.format.manifest import Manifest, changed_values

__all__ = ["FeatureItem", "FeatureList", "FeatureSpec", "feature_item", "frames_key", "read_list"]

DIGEST_BYTES = 16
_META = "hybrid_features"
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

Grid = tuple[int, int]

_LARGEST_WIDTH = 2**20
_LARGEST_GRID = 2**16
"""Rows, and columns, of tokens."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What features are of: whose, and in which form. Two stores with equal specs are interchangeable.

    Attributes:
        identity: everything that decides a feature: weights, resizing, mode ... as names and texts.
        dtype: ``float32``, ``bfloat16`` or ``float16``: of a stored value, exactly as it was made.
        width: values a token.

    Raises:
        InputError: the dtype is not known, or the width is below 1.
    """

    identity: Mapping[str, str]
    dtype: str
    width: int

    def __post_init__(self) -> None:
        if self.dtype not in _ITEM_BYTES:
            raise InputError(f"dtype of features is {self.dtype!r}; legal are {', '.join(_ITEM_BYTES)}")
        if not 1 <= self.width <= _LARGEST_WIDTH:
            raise InputError(f"width of features is {self.width}; it must be 1 to {_LARGEST_WIDTH}")
        if not all(isinstance(part, str) for part in (*self.identity, *self.identity.values())):
            raise InputError("the identity of features must be names and texts")

    @property
    def key(self) -> str:
        """16 hexadecimal digits: equal for equal specs."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return blake3.blake3(canonical.encode()).hexdigest(length=8)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for ``json.dumps``."""
        return {"identity": dict(self.identity), "dtype": self.dtype, "width": self.width}

    def item_bytes(self, grid: Grid) -> int:
        """How many bytes the features of a frame with this grid of tokens take."""
        return grid[0] * grid[1] * self.width * _ITEM_BYTES[self.dtype]

    def differences(self, requested: FeatureSpec) -> list[str]:
        """What sets two specs apart, one line each: ``name: stored -> requested``."""
        before = {**self.identity, "dtype": self.dtype, "width": self.width}
        after = {**requested.identity, "dtype": requested.dtype, "width": requested.width}
        return changed_values(before, after)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureItem:
    """The features of one frame as bytes.

    Attributes:
        grid: rows and columns of its tokens.
        values: uint8 [bytes]: tokens row after row, little-endian values.
        digest: :data:`DIGEST_BYTES` bytes of BLAKE3 of grid and values; names the content.
    """

    grid: Grid
    values: ByteArray
    digest: bytes


def feature_item(grid: Grid, values: ByteArray) -> FeatureItem:
    """An item with its digest."""
    return FeatureItem(grid, values, item_digest(grid, values))


def item_digest(grid: Grid, values: ByteArray) -> bytes:
    """The grid counts too, so that values which are read in another form are noticed."""
    digest = blake3.blake3(f"{grid[0]}x{grid[1]}\n".encode())
    digest.update(values.data)
    return digest.digest(length=DIGEST_BYTES)


def frames_key(manifest: Manifest) -> str:
    """16 hexadecimal digits that name the frames of an index: its timeline, and who decoded them.

    The features of a frame do not depend on the CLIP encoder, so those of a video survive an index
    with another encoder, as long as it is of the same frames.
    """
    text = f"{manifest.timeline_hash} {manifest.config.decoder}"
    return blake3.blake3(text.encode()).hexdigest(length=8)


class ItemLocation(NamedTuple):
    """Where the features of one row lie."""

    start: int
    grid: Grid
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class FeatureList:
    """What is stored of one video under one spec.

    Attributes:
        spec: what the features are of.
        frames_key: of which frames; see :func:`frames_key`.
        values_name: name of the file with the values, in the same folder.
        size_bytes: how much of that file counts. What lies behind it was not finished.
        grids: the grids of tokens that occur.
        starts: int64 [rows of the index]: where a row's values begin in the file; -1: not stored.
        grid_of: int64 [rows]: which of ``grids``; -1: not stored.
        digests: uint8 [rows, DIGEST_BYTES].
    """

    spec: FeatureSpec
    frames_key: str
    values_name: str
    size_bytes: int
    grids: tuple[Grid, ...]
    starts: IntArray
    grid_of: IntArray
    digests: ByteArray

    def __post_init__(self) -> None:
        rows = len(self.starts)
        if self.starts.shape != (rows,) or self.grid_of.shape != (rows,) or self.digests.shape != (rows, DIGEST_BYTES):
            raise InputError("the parts of a list of features do not fit each other")
        if [array.dtype.str[1:] for array in (self.starts, self.grid_of, self.digests)] != ["i8", "i8", "u1"]:
            raise InputError("the parts of a list of features are of other types")
        if not all(1 <= side <= _LARGEST_GRID for grid in self.grids for side in grid):
            raise InputError(f"the grids of tokens are {self.grids}; they have 1 to {_LARGEST_GRID} rows and columns")
        present = self.present
        if not ((self.grid_of[present] >= 0).all() and (self.grid_of[present] < len(self.grids)).all()):
            raise InputError("a list of features names a grid that it does not have")
        if type(self.size_bytes) is not int or not 0 <= self.size_bytes < 2**63:
            raise InputError(f"the values of features take {self.size_bytes!r} bytes, which is not legal")
        if not re.fullmatch(r"[\w.-]+", self.values_name, re.ASCII) or self.values_name in (".", ".."):
            raise InputError(f"the values of features cannot lie at {self.values_name!r}")

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def empty(cls, spec: FeatureSpec, *, frames: str, rows: int, values_name: str) -> FeatureList:
        """A list of nothing, for a video of so many rows."""
        nothing = np.full(rows, -1, dtype=np.int64)
        digests = np.zeros((rows, DIGEST_BYTES), dtype=np.uint8)
        return cls(spec, frames, values_name, 0, (), nothing, nothing.copy(), digests)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which rows are stored: bool [rows]."""
        stored: npt.NDArray[np.bool_] = self.starts >= 0
        return stored

    def location(self, row: int) -> ItemLocation:
        """Where a row that is present lies."""
        return ItemLocation(int(self.starts[row]), self.grids[self.grid_of[row]], self.digests[row].tobytes())

    def added(self, locations: Mapping[int, ItemLocation], *, size_bytes: int) -> FeatureList:
        """The list with further rows."""
        grids = list(self.grids)
        starts, grid_of, digests = self.starts.copy(), self.grid_of.copy(), self.digests.copy()
        for row, location in locations.items():
            if location.grid not in grids:
                grids.append(location.grid)
            starts[row], grid_of[row] = location.start, grids.index(location.grid)
            digests[row] = np.frombuffer(location.digest, dtype=np.uint8)
        return replace(self, grids=tuple(grids), starts=starts, grid_of=grid_of, digests=digests, size_bytes=size_bytes)

    def to_bytes(self) -> bytes:
        """The content of the list's file: a safetensors file whose bytes depend on the list alone."""
        tensors = {
            "starts": np.ascontiguousarray(self.starts, dtype="<i8"),
            "grid_of": np.ascontiguousarray(self.grid_of, dtype="<i8"),
            "digests": np.ascontiguousarray(self.digests),
        }
        rest = {
            **self.spec.to_dict(),
            "frames_key": self.frames_key,
            "values_name": self.values_name,
            "size_bytes": self.size_bytes,
            "grids": [list(grid) for grid in self.grids],
        }
        rest["checksum"] = _checksum(rest, tensors)
        return save(tensors, metadata={_META: json.dumps(rest, sort_keys=True)})


def read_list(data: bytes, *, where: str) -> FeatureList:
    """Rebuild a list from :meth:`FeatureList.to_bytes`.

    Args:
        data: the bytes of the file.
        where: its path, for the error.

    Raises:
        IndexDamagedError: the bytes are not those of a list, or one of them was altered.
    """
    try:
        tensors = load(data)
        rest = read_note(data, _META)
        if rest.pop("checksum") != _checksum(rest, tensors):
            raise IndexDamagedError(f"{where}: its content is not what was written")
        found = FeatureList(
            spec=FeatureSpec(rest["identity"], rest["dtype"], rest["width"]),
            frames_key=rest["frames_key"],
            values_name=rest["values_name"],
            size_bytes=rest["size_bytes"],
            grids=tuple((int(rows), int(columns)) for rows, columns in rest["grids"]),
            starts=tensors["starts"],
            grid_of=tensors["grid_of"],
            digests=tensors["digests"],
        )
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise IndexDamagedError(f"{where}: not a list of features: {exc}") from exc
    return found


def _checksum(rest: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = blake3.blake3(json.dumps(rest, sort_keys=True).encode())
    for name in ("starts", "grid_of", "digests"):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest(length=16)

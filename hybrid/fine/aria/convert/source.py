"""The tensors of a checkpoint on disk, read one at a time.

Files are read, not mapped: what is held is the tensor that was asked for and nothing else. Values
pass through as bytes (unsigned numbers of their width), so that every precision comes out bit for
bit, bfloat16 included, which numpy does not know.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid.errors import ModelLoadError, first_line
from hybrid.fine.checkpoint import read_header, read_weight_index
from hybrid.storage.tensor_header import TensorHeader

__all__ = ["BITS", "RawArray", "TensorInfo", "TensorSource", "open_source"]

RawArray = npt.NDArray[np.unsignedinteger[Any]]

BITS: Mapping[str, type[np.unsignedinteger[Any]]] = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}
"""The precisions of weights, by their names in safetensors, and the numbers that carry their bits."""

_SAFETENSORS = ("model.safetensors.index.json", "model.safetensors")
_PICKLED = ("pytorch_model.bin.index.json", "pytorch_model.bin")
_AGAIN = "download it again"
_OPEN_PICKLES = 2
_SAMPLES = 64
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What is known of a tensor before it is read.

    Attributes:
        dtype: ``BF16``, ``F16``, ``F32``, or the name of what cannot be read (see :data:`BITS`).
        shape: its sides.
        file: the file that holds it.
    """

    dtype: str
    shape: tuple[int, ...]
    file: str


class TensorSource(ABC):
    """A checkpoint's tensors.

    Attributes:
        tensors: all of them, by name.
        files: name -> size in bytes of every file of weights.
        digest: changes with the files' names and sizes, with what their headers list, and with a sample of their bytes.

    Args:
        folder: of the checkpoint.
        listing: its files.
    """

    def __init__(self, folder: Path, listing: _Listing) -> None:
        self._folder = folder
        self.tensors: dict[str, TensorInfo] = {}
        self.files: dict[str, int] = {}
        digest = hashlib.sha256()
        for file in listing.files:
            listed = self._add(file)
            size = self.files[file] = (folder / file).stat().st_size
            digest.update(f"{file}\0{size}\0{listed}\0".encode())
            digest.update(_sample(folder / file, size))
        for name, file in listing.file_of.items():
            if name not in self.tensors or self.tensors[name].file != file:
                raise ModelLoadError(f"{folder / file} does not hold {name}, which the index lists in it; {_AGAIN}")
        self.digest = digest.hexdigest()

    @abstractmethod
    def _add(self, file: str) -> object:
        """Add the tensors of a file; gives what decides the digest."""

    @abstractmethod
    def read(self, name: str) -> RawArray:
        """The bits of one tensor, in its shape; :data:`BITS` tells their type.

        Raises:
            ModelLoadError: the file cannot be read any more, or is shorter than it was.
        """


def open_source(folder: Path) -> TensorSource:
    """Open the weights of a folder: safetensors where there are any, else ``.bin``.

    Raises:
        ModelLoadError: there are none, or one of the files is missing, cut or damaged.
    """
    kinds: tuple[tuple[type[TensorSource], tuple[str, str]], ...] = (
        (_Safetensors, _SAFETENSORS),
        (_Pickled, _PICKLED),
    )
    for kind, (index, single) in kinds:
        listing = _listed(folder, index, single)
        if listing is not None:
            return kind(folder, listing)
    raise ModelLoadError(
        f"{folder} has no weights (looked for {', '.join((*_SAFETENSORS, *_PICKLED))}); download the checkpoint again"
    )


class _Listing(NamedTuple):
    """The files of a checkpoint's weights, and the file of each tensor where an index tells it."""

    files: list[str]
    file_of: dict[str, str]


def _listed(folder: Path, index: str, single: str) -> _Listing | None:
    """What there is under these names; None if nothing is."""
    if (folder / index).is_file():
        file_of = read_weight_index(folder / index)
        return _Listing(sorted(set(file_of.values())), file_of)
    return _Listing([single], {}) if (folder / single).is_file() else None


def _sample(path: Path, size: int) -> bytes:
    """Pieces from all over a file: enough to tell weights from the same ones trained further, at the cost of none."""
    try:
        with path.open("rb") as file:
            pieces = []
            for number in range(_SAMPLES):
                file.seek(number * size // _SAMPLES)
                pieces.append(file.read(_SAMPLE_BYTES))
    except OSError as exc:
        raise ModelLoadError(f"{path} cannot be read: {exc}") from exc
    return b"".join(pieces)


class _Safetensors(TensorSource):
    """Safetensors files: a list of tensors and their offsets, then their bytes."""

    def __init__(self, folder: Path, listing: _Listing) -> None:
        self._offsets: dict[str, int] = {}
        super().__init__(folder, listing)

    def _add(self, file: str) -> str:
        header = _read_header(self._folder / file)
        for name, tensor in header.tensors.items():
            self.tensors[name] = TensorInfo(tensor.dtype, tensor.shape, file)
            self._offsets[name] = header.data_start + tensor.start
        return json.dumps(header.document, sort_keys=True)

    def read(self, name: str) -> RawArray:
        info = self.tensors[name]
        path, count = self._folder / info.file, prod(info.shape)
        try:
            values: RawArray = np.fromfile(path, dtype=BITS[info.dtype], count=count, offset=self._offsets[name])
        except OSError as exc:
            raise ModelLoadError(f"{path} cannot be read: {exc}") from exc
        if len(values) != count:
            raise ModelLoadError(f"{path} is cut: it ends within {name}; {_AGAIN}")
        return values.reshape(info.shape)


def _read_header(path: Path) -> TensorHeader:
    """The tensors that a file lists; a cut file, and one whose lengths do not follow from its shapes, is refused."""
    header = read_header(path)
    for name, tensor in header.tensors.items():
        width = np.dtype(BITS[tensor.dtype]).itemsize if tensor.dtype in BITS else None
        if width and tensor.end - tensor.start != width * tensor.count:
            raise ModelLoadError(f"{path} has a damaged header: the range of {name} does not fit its shape; {_AGAIN}")
    return header


class _Pickled(TensorSource):
    """torch's ``.bin`` files, of which two at most are held; nothing in them is ever run."""

    def __init__(self, folder: Path, listing: _Listing) -> None:
        self._load = lru_cache(maxsize=_OPEN_PICKLES)(lambda file: _load_pickled(folder / file))
        super().__init__(folder, listing)

    def _add(self, file: str) -> list[tuple[str, str, tuple[int, ...]]]:
        for name, tensor in self._load(file).items():
            dtype = _NAMES.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype))
            self.tensors[name] = TensorInfo(dtype, tuple(tensor.shape), file)
        return sorted((name, info.dtype, info.shape) for name, info in self.tensors.items() if info.file == file)

    def read(self, name: str) -> RawArray:
        import torch

        info = self.tensors[name]
        tensor = self._load(info.file)[name].contiguous()
        width = torch.int32 if info.dtype == "F32" else torch.int16
        values: RawArray = tensor.view(width).numpy().view(BITS[info.dtype])
        return values


_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def _load_pickled(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        # Files of before torch 1.6 are no archives and cannot be mapped.
        with path.open("rb") as file:
            mapped = file.read(2) == b"PK"
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as exc:  # torch raises what it likes for a damaged file; one seam for all
        raise ModelLoadError(
            f"{path} is cut, damaged, or holds more than tensors: {first_line(exc)}; {_AGAIN}"
        ) from exc
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelLoadError(f"{path} holds something else than named tensors; {_AGAIN}")
    return found

"""The tensors of a checkpoint on disk, read one at a time.

Files are read, not mapped: what is held is the tensor that was asked for and nothing else. Values
pass through as bytes (unsigned numbers of their width), so that every precision comes out bit for
bit, bfloat16 included, which numpy does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError, ModelLoadError, first_line
from hybrid.fine.checkpoint import check_file_name, read_json
from hybrid.storage.tensor_header import TensorHeader, read_tensor_header

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


class TensorSource(Protocol):
    """A checkpoint's tensors."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All of them, by name."""
        ...

    @property
    def files(self) -> Mapping[str, int]:
        """Name -> size in bytes of every file of weights."""
        ...

    @property
    def digest(self) -> str:
        """Changes with the files' names and sizes, with what their headers list, and with a sample of their bytes."""
        ...

    def read(self, name: str) -> RawArray:
        """The bits of one tensor, in its shape; :data:`BITS` tells their type.

        Raises:
            ModelLoadError: the file cannot be read any more, or is shorter than it was.
        """
        ...


def open_source(folder: Path) -> TensorSource:
    """Open the weights of a folder: safetensors where there are any, else ``.bin``.

    Raises:
        ModelLoadError: there are none, or one of the files is missing, cut or damaged.
    """
    for kind, (index, single) in ((_Safetensors, _SAFETENSORS), (_Pickled, _PICKLED)):
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
    if not (folder / index).is_file():
        return _Listing([single], {}) if (folder / single).is_file() else None
    try:
        listed = read_json(folder / index)["weight_map"]
        file_of = {name: check_file_name(file) for name, file in listed.items()}
    except (KeyError, TypeError, AttributeError) as exc:
        raise ModelLoadError(f"{folder / index} lists no weights: {first_line(exc)}; {_AGAIN}") from exc
    files = sorted(set(file_of.values()))
    absent = [file for file in files if not (folder / file).is_file()]
    if absent or not files:
        first = f", first {absent[0]}" if absent else ""
        raise ModelLoadError(f"{folder} lacks {len(absent)} of {len(files)} files of weights{first}; {_AGAIN}")
    return _Listing(files, file_of)


def _check_index(folder: Path, listing: _Listing, tensors: Mapping[str, TensorInfo]) -> None:
    """What an index promises has to be in the file that it names."""
    for name, file in listing.file_of.items():
        if name not in tensors or tensors[name].file != file:
            raise ModelLoadError(f"{folder / file} does not hold {name}, which the index lists in it; {_AGAIN}")


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


class _Safetensors:
    """Safetensors files: a list of tensors and their places, then their bytes."""

    def __init__(self, folder: Path, listing: _Listing) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self.files: dict[str, int] = {}
        digest = hashlib.sha256()
        for file in listing.files:
            header = _read_header(folder / file)
            self.files[file] = header.size
            for name, tensor in header.tensors.items():
                self.tensors[name] = TensorInfo(tensor.dtype, tensor.shape, file)
                self._offsets[name] = header.data_start + tensor.start
            digest.update(f"{file}\0{header.size}\0{json.dumps(header.document, sort_keys=True)}\0".encode())
            digest.update(_sample(folder / file, header.size))
        _check_index(folder, listing, self.tensors)
        self.digest = digest.hexdigest()

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
    try:
        header = read_tensor_header(path)
    except OSError as exc:
        raise ModelLoadError(f"{path} cannot be read: {exc}") from exc
    except InputError as exc:
        raise ModelLoadError(f"{exc}; {_AGAIN}") from exc
    for name, tensor in header.tensors.items():
        width = np.dtype(BITS[tensor.dtype]).itemsize if tensor.dtype in BITS else None
        if width and tensor.end - tensor.start != width * tensor.count:
            raise ModelLoadError(f"{path} has a damaged header: the place of {name} does not fit its shape; {_AGAIN}")
    return header


class _Pickled:
    """torch's ``.bin`` files, of which two at most are held; nothing in them is ever run."""

    def __init__(self, folder: Path, listing: _Listing) -> None:
        self._folder = folder
        self._open: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self.tensors: dict[str, TensorInfo] = {}
        self.files: dict[str, int] = {}
        digest = hashlib.sha256()
        for file in listing.files:
            self.files[file] = (folder / file).stat().st_size
            for name, tensor in self._load(file).items():
                dtype = _NAMES.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype))
                self.tensors[name] = TensorInfo(dtype, tuple(tensor.shape), file)
            held = sorted((name, info.dtype, info.shape) for name, info in self.tensors.items() if info.file == file)
            digest.update(f"{file}\0{self.files[file]}\0{held}\0".encode())
            digest.update(_sample(folder / file, self.files[file]))
        _check_index(folder, listing, self.tensors)
        self.digest = digest.hexdigest()

    def read(self, name: str) -> RawArray:
        import torch

        info = self.tensors[name]
        tensor = self._load(info.file)[name].contiguous()
        width = torch.int32 if info.dtype == "F32" else torch.int16
        values: RawArray = tensor.view(width).numpy().view(BITS[info.dtype])
        return values

    def _load(self, file: str) -> Mapping[str, Any]:
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        while len(self._open) >= _OPEN_PICKLES:
            self._open.popitem(last=False)
        self._open[file] = _load_pickled(self._folder / file)
        return self._open[file]


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

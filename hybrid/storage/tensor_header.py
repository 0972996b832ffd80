"""The header of a safetensors file: which tensors it lists, and what else its writer noted."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from hybrid.errors import InputError
from hybrid.storage.foreign_json import NOTES, STORED, parse_json

__all__ = ["ListedTensor", "TensorHeader", "read_tensor_header"]

_LARGEST_HEADER = 100 * 2**20
"""Bytes, as in the safetensors library."""


@dataclass(frozen=True, slots=True)
class ListedTensor:
    """One tensor of a file.

    Attributes:
        dtype: by the format's name, for example ``BF16``.
        shape: every side at least 0.
        start, end: where its bytes lie, from the end of the header on.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        """How many values it has."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a safetensors file lists.

    Attributes:
        document: the header as JSON, without its notes.
        tensors: by name.
        data_start: where the first tensor's bytes may begin in the file.
        size: bytes of the file.
    """

    document: dict[str, Any]
    tensors: dict[str, ListedTensor]
    data_start: int
    size: int


def read_tensor_header(path: Path) -> TensorHeader:
    """Read the header of a file, and check that the file is as long as the header says.

    Raises:
        OSError: it cannot be read.
        InputError: it is cut, or its header is damaged. The message names the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length or length > _LARGEST_HEADER:
            raise InputError(f"{path} is cut or no safetensors file ({size} bytes)")
        document = parse_json(file.read(length), where=f"{path} has a damaged header", limits=STORED)
    if not isinstance(document, dict):
        raise InputError(f"{path} has a damaged header: it is no JSON object")
    document.pop(NOTES, None)
    tensors = {name: _tensor(path, name, entry) for name, entry in document.items()}
    end = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if size < end:
        raise InputError(f"{path} is cut: it has {size} of {end} bytes")
    return TensorHeader(document, tensors, 8 + length, size)


def _tensor(path: Path, name: str, entry: object) -> ListedTensor:
    if isinstance(entry, dict):
        dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        if isinstance(dtype, str) and _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2:
            tensor = ListedTensor(dtype, tuple(shape), *offsets)
            if tensor.start <= tensor.end:
                return tensor
    shown = ascii(entry)[:120]
    raise InputError(f"{path} has a damaged header: tensor {ascii(name)[:120]} is {shown}")


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    """Whether a value is a list of whole numbers that are not negative."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)

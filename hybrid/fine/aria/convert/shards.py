"""Native weights on disk: which tensor goes into which file, and the files, each whole or not there.

What a file will hold, byte for byte, follows from the plan alone. So a conversion that is stopped at
any moment and run again writes the very same files, and those that are finished are left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid.fine.aria.convert.mapping import NativeTensor
from hybrid.fine.aria.convert.source import TensorSource
from hybrid.storage.atomic import sync_folder

__all__ = ["Shard", "plan_shards", "weight_index", "write_shard"]

_ALIGNMENT = 8
_UNFINISHED = ".unfinished"


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of weights.

    Attributes:
        name: of the file.
        tensors: in the order of their bytes.
    """

    name: str
    tensors: tuple[NativeTensor, ...]

    @property
    def header(self) -> bytes:
        """The start of the file, up to its first tensor."""
        listing: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for tensor in self.tensors:
            start, end = end, end + tensor.size
            listing[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
        text = json.dumps(listing, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        return len(self.header) + sum(tensor.size for tensor in self.tensors)

    def is_in(self, folder: Path) -> bool:
        """Whether the finished file is there. It appears under its name only when it is whole."""
        path, header = folder / self.name, self.header
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return file.read(len(header)) == header


def plan_shards(tensors: Sequence[NativeTensor], *, limit: int) -> list[Shard]:
    """Spread tensors over files of at most ``limit`` bytes of data, a larger tensor alone in its own."""
    groups: list[list[NativeTensor]] = [[]]
    held = 0
    for tensor in tensors:
        if groups[-1] and held + tensor.size > limit:
            groups.append([])
            held = 0
        groups[-1].append(tensor)
        held += tensor.size
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", tuple(group))
        for number, group in enumerate(groups, start=1)
    ]


def weight_index(shards: Sequence[Shard]) -> str:
    """``model.safetensors.index.json``: which file holds which tensor."""
    total = sum(tensor.size for shard in shards for tensor in shard.tensors)
    file_of = {tensor.name: shard.name for shard in shards for tensor in shard.tensors}
    document = {"metadata": {"total_size": total}, "weight_map": dict(sorted(file_of.items()))}
    return json.dumps(document, indent=2) + "\n"


def write_shard(shard: Shard, source: TensorSource, folder: Path, *, tell: Callable[[int], None]) -> None:
    """Write one file, under another name until it is whole and on disk.

    Args:
        shard: what goes into it.
        source: where the bits come from.
        folder: where to.
        tell: called with the number of bytes after every piece.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        ModelLoadError: the source cannot be read.
    """
    unfinished = folder / (shard.name + _UNFINISHED)
    with unfinished.open("wb") as file:
        tell(file.write(shard.header))
        for tensor in shard.tensors:
            for piece in tensor.pieces(source):
                piece.tofile(file)
                tell(piece.nbytes)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / shard.name)
    sync_folder(folder)

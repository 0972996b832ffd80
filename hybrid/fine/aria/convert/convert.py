"""Convert the published checkpoint of GenS on Aria to one that transformers' own Aria loads.

Tensors are streamed one at a time, so the memory that is needed is that of the largest one. The
conversion can be stopped at any moment and goes on with the file that it was at; the result is the
same, byte for byte. Until it is complete, ``DEST`` is marked (:data:`UNFINISHED`) and lacks the
files by which a checkpoint is known.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from hybrid.errors import InputError, ModelLoadError, SaveError
from hybrid.fine.aria.convert.config import FRAME_SIDE, check_settings, measure, native_config, norm_topk_prob
from hybrid.fine.aria.convert.mapping import plan_tensors
from hybrid.fine.aria.convert.shards import Shard, plan_shards, weight_index, write_shard
from hybrid.fine.aria.convert.source import TensorSource, open_source
from hybrid.fine.aria.placement import MemoryNeed, memory_need
from hybrid.fine.checkpoint import UNFINISHED, find_folder, read_json, read_object
from hybrid.fine.families import Loading
from hybrid.storage.atomic import make_folder, remove_file, write_atomically

__all__ = ["DEFAULT_SHARD_BYTES", "Conversion", "convert_gens"]

DEFAULT_SHARD_BYTES = 4 * 10**9
RECORD = "hybrid_conversion.json"
_INDEX = "model.safetensors.index.json"
_LOCK = ".converting.lock"
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model")
_COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
# Names of code inside the checkpoint, which is never run and not carried over.
_CODE_KEYS = ("auto_map", "custom_pipelines")

_PREPROCESSING = {
    "image_processor_type": "AriaImageProcessor",
    "processor_class": "AriaProcessor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "max_image_size": FRAME_SIDE,
    "min_image_size": 336,
    "split_image": False,
}

_README = """\
# GenS on Aria, converted

These are the weights of GenS's checkpoint on Aria in the layout of transformers' own
`AriaForConditionalGeneration`, made by `hybrid convert-gens`. Values are unchanged, bit for bit. The
licence of the weights is that of the original: read its model card.

    hybrid ask VIDEO QUESTION --preset gens-aria --sampler THIS_FOLDER
{note}"""

_UNNORMALISED = """
**Do not run this folder with transformers alone.** The checkpoint has `norm_topk_prob` false: the weights
of a token's experts do not sum to 1. transformers' Aria always makes them do so, which gives other
replies without a word; hybrid corrects that after loading.
"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes:
        folder: where the native checkpoint lies.
        parameters: how many numbers it holds.
        weight_bytes: their size.
        files: how many files of weights there are.
        files_kept: how many of them were there already.
        norm_topk_prob: whether the checkpoint has it; False needs hybrid's router.
        needs: the memory that running it takes in the precision that it has.
        seconds: how long it took.
    """

    folder: Path
    parameters: int
    weight_bytes: int
    files: int
    files_kept: int
    norm_topk_prob: bool
    needs: MemoryNeed
    seconds: float


def convert_gens(
    source: str | Path,
    dest: Path,
    *,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Convert a checkpoint; continue a stopped conversion; restore missing files of a complete one.

    Args:
        source: a folder with GenS's original files (model type ``yi_vl``; safetensors, or ``.bin``
            files, of which only tensors are read), or its hub name, which is then downloaded.
        dest: where to: a folder that is not there, is empty, or holds an earlier conversion of the
            same source.
        shard_bytes: the largest file of weights, in bytes.
        tell: called with the bytes that are written and their total after every piece.

    Raises:
        ModelLoadError: the source is missing, cut or incomplete, or transformers' Aria cannot
            represent it.
        InputError: ``dest`` holds something else, or ``shard_bytes`` is below 1.
        SaveError: ``dest`` cannot be written, has too little room, or another process writes there.
    """
    started = time.perf_counter()
    if shard_bytes < 1:
        raise InputError(f"shard_bytes is {shard_bytes}; it must be at least 1")
    folder = find_folder(source, ("config.json",))
    config = read_object(folder / "config.json")
    check_settings(config)
    folder = _weights_too(source, folder)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelLoadError(f"{folder} has no {' and no '.join(_TOKENIZERS)}; download the checkpoint again")
    tensors = open_source(folder)
    sizes = measure(tensors.tensors, config)
    native = native_config(config, sizes)
    shards = plan_shards(plan_tensors(tensors.tensors, sizes), limit=shard_bytes)
    mark = _mark(folder, config, tensors, shard_bytes)
    # Made before anything is written: a fault in them must not show after an hour of work.
    small_files = _small_files(folder, native, shards, mark)
    with _writing(dest):
        complete = _begin(dest, mark)
        existing = [shard for shard in shards if shard.is_in(dest)]
        if len(existing) < len(shards):
            _write_weights(shards, existing, tensors, dest, tell)
        for name, content in small_files.items():
            # Of a complete conversion only what is lost is made again: the rest may have been edited.
            if not complete or not (dest / name).is_file():
                write_atomically(dest / name, content)
        remove_file(dest / UNFINISHED)
    written = [tensor for shard in shards for tensor in shard.tensors]
    parameters, size = sum(prod(tensor.shape) for tensor in written), sum(tensor.size for tensor in written)
    itemsize = -(-size // parameters)
    precision = "float32" if itemsize == 4 else "16 bits"
    return Conversion(
        folder=dest,
        parameters=parameters,
        weight_bytes=size,
        files=len(shards),
        files_kept=len(existing),
        norm_topk_prob=norm_topk_prob(config),
        needs=memory_need(native, parameters, itemsize=itemsize, dtype=precision, loading=Loading()),
        seconds=time.perf_counter() - started,
    )


def _weights_too(source: str | Path, folder: Path) -> Path:
    """The folder with all files; from the hub, safetensors are taken where there are any."""
    if folder == Path(str(source)).expanduser():
        return folder
    folder = find_folder(source, _SMALL_FILES)
    pickled = (folder / "pytorch_model.bin.index.json").is_file() and not (folder / _INDEX).is_file()
    return find_folder(source, (*_SMALL_FILES, "*.bin" if pickled else "*.safetensors"))


def _mark(folder: Path, config: Mapping[str, Any], tensors: TensorSource, shard_bytes: int) -> dict[str, Any]:
    """What identifies a conversion: stored in the folder during the conversion and after it."""
    digest = hashlib.sha256(tensors.digest.encode())
    digest.update(json.dumps(config, sort_keys=True).encode())
    for name in _COPIED:
        if (folder / name).is_file():
            digest.update(f"{name}\0".encode() + (folder / name).read_bytes())
    return {
        "format": 2,
        "source": digest.hexdigest(),
        "source_files": dict(tensors.files),
        "shard_bytes": shard_bytes,
        "norm_topk_prob": norm_topk_prob(config),
        # Left out of the finished record: a copy of the source must give the same bytes.
        "changed": {name: (folder / name).stat().st_mtime_ns for name in tensors.files},
    }


def _record(mark: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mark.items() if key != "changed"}


@contextmanager
def _writing(dest: Path) -> Iterator[None]:
    """Hold the folder against other converters, and turn errors of the disk into one of ours."""
    from filelock import FileLock, Timeout

    try:
        if dest.exists() and not dest.is_dir():
            raise InputError(f"{dest} is a file; name a folder")
        make_folder(dest)
        with FileLock(dest / _LOCK, timeout=0):
            try:
                yield
            finally:
                # Also where the folder was refused: it may hold something of the user's.
                with suppress(OSError):
                    (dest / _LOCK).unlink(missing_ok=True)
    except Timeout as exc:
        raise SaveError(f"another process converts into {dest}; let it finish") from exc
    except OSError as exc:
        raise SaveError(f"{dest} cannot be written: {exc.strerror or exc}; free some room and run it again") from exc


def _begin(dest: Path, mark: Mapping[str, Any]) -> bool:
    """Claim the folder for this conversion; True if a complete one of the same kind is there."""
    text = json.dumps(mark, indent=2) + "\n"
    for name, ours in ((UNFINISHED, dict(mark)), (RECORD, _record(mark))):
        if (dest / name).is_file():
            if read_json(dest / name) != ours:
                raise InputError(
                    f"{dest} holds a conversion of another source, of one that was changed since, or with other "
                    "settings; name another folder, or delete this one"
                )
            return name == RECORD
    others = [path.name for path in dest.iterdir() if path.name != _LOCK]
    if others:
        raise InputError(f"{dest} is not empty (it holds {sorted(others)[0]}); name another folder")
    write_atomically(dest / UNFINISHED, text.encode())
    return False


def _write_weights(
    shards: list[Shard], existing: list[Shard], tensors: TensorSource, dest: Path, tell: Callable[[int, int], None]
) -> None:
    total = sum(shard.size for shard in shards)
    done = sum(shard.size for shard in existing)
    unfinished = list(dest.glob("*.unfinished"))
    free = shutil.disk_usage(dest).free + sum(path.stat().st_size for path in unfinished)
    if total - done > free:
        raise SaveError(
            f"{dest} has room for {free / 1e9:.1f} GB, the conversion needs {(total - done) / 1e9:.1f} GB more"
        )

    def wrote(size: int) -> None:
        nonlocal done
        done += size
        tell(done, total)

    for shard in shards:
        if shard not in existing:
            write_shard(shard, tensors, dest, tell=wrote)


def _small_files(
    folder: Path, native: Mapping[str, Any], shards: list[Shard], mark: Mapping[str, Any]
) -> dict[str, bytes]:
    """Name -> content of everything besides the weights; what a checkpoint is known by comes last."""
    files = {name: _without_code(folder / name) for name in _COPIED if (folder / name).is_file()}
    files["README.md"] = _README.format(note="" if mark["norm_topk_prob"] else _UNNORMALISED).encode()
    documents = {
        "generation_config.json": _generation(folder, native),
        "preprocessor_config.json": _PREPROCESSING,
        "config.json": native,
    }
    files.update({name: (json.dumps(document, indent=2) + "\n").encode() for name, document in documents.items()})
    files[_INDEX] = weight_index(shards).encode()
    files[RECORD] = (json.dumps(_record(mark), indent=2) + "\n").encode()
    return files


def _without_code(path: Path) -> bytes:
    if path.name != "tokenizer_config.json":
        return path.read_bytes()
    plain = {key: value for key, value in read_object(path).items() if key not in _CODE_KEYS}
    return (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode()


def _generation(folder: Path, native: Mapping[str, Any]) -> dict[str, Any]:
    """The published generation settings, or the ids of ``config.json`` where there are none."""
    if (folder / "generation_config.json").is_file():
        return read_object(folder / "generation_config.json")
    return {key: native[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in native}

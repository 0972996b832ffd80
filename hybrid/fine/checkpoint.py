"""The files of a checkpoint: where they are, whether they are whole, what they hash to.

Looks only at files; loads no model and needs neither torch nor transformers. A checkpoint that is
cut or incomplete is found here, with the name of the file, before anything large is read.
"""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.errors import InputError, ModelLoadError, first_line
from hybrid.fine.registry import FAMILIES
from hybrid.storage import foreign_json
from hybrid.storage.tensor_header import TensorHeader, read_tensor_header

__all__ = [
    "UNFINISHED",
    "CheckpointConfig",
    "CheckpointFiles",
    "CheckpointNotHereError",
    "check_file_name",
    "find_checkpoint",
    "find_config",
    "find_folder",
    "is_hub_name",
    "not_here",
    "read_header",
    "read_json",
    "read_object",
    "read_weight_index",
]

UNFINISHED = "hybrid_conversion_unfinished.json"
"""Lies in the folder of a conversion (:mod:`hybrid.fine.aria.convert.convert`) as long as it is not complete."""

_ORIGINAL_ARIA = "yi_vl"
_FILE_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_HASH_CHUNK = 16 * 2**20
_LIMITS = foreign_json.JsonLimits(size=64 * 2**20, values=10_000_000)
_REVISION = re.compile(r"[0-9a-f]{40}")


class CheckpointNotHereError(ModelLoadError):
    """A checkpoint, or some of it, is not on this machine, and nothing was to be downloaded."""


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """A checkpoint whose configuration alone was read; its weights may be elsewhere.

    Attributes:
        name: as the caller named it.
        folder: where it lies.
        config: its config.json.
    """

    name: str
    folder: Path
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointFiles(CheckpointConfig):
    """A checkpoint on disk that is complete as far as its own lists tell.

    Attributes:
        name, folder, config: see :class:`CheckpointConfig`.
        weights: its safetensors files, in order of names.
        parameters: how many numbers they hold.
    """

    weights: tuple[Path, ...]
    parameters: int

    @property
    def revision(self) -> str:
        """The hub's commit, where the folder is a snapshot of the hub's cache; else empty."""
        return self.folder.name if _REVISION.fullmatch(self.folder.name) else ""

    def weights_digest(self) -> str:
        """Sixteen hexadecimal digits over every byte of the weights, hashed by several threads."""
        total = hashlib.sha256()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for path in self.weights:
                chunks = [(path, start) for start in range(0, path.stat().st_size, _HASH_CHUNK)]
                for digest in pool.map(_hash_chunk, chunks):
                    total.update(digest)
        return total.hexdigest()[:16]

    def settings_digest(self) -> str:
        """Sixteen hexadecimal digits over the small files that decide a reply besides the weights."""
        total = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.name in _SETTINGS:
                total.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        return total.hexdigest()[:16]


_SETTINGS = (
    *("added_tokens.json", "config.json", "generation_config.json", "merges.txt", "preprocessor_config.json"),
    *("processor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer.model"),
    *("tokenizer_config.json", "vocab.json"),
)


def _hash_chunk(chunk: tuple[Path, int]) -> bytes:
    path, start = chunk
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(_HASH_CHUNK)).digest()


def find_checkpoint(name_or_folder: str | Path, *, download: bool = True) -> CheckpointFiles:
    """Find a checkpoint, check that it is of a kind that can be run, and that it is whole.

    Args:
        name_or_folder: a folder, or a name on the model hub (``owner/name`` or
            ``owner/name@revision``), which is downloaded unless it is in the hub's cache.
        download: False: the hub is not contacted; only what is in its cache counts.

    Raises:
        CheckpointNotHereError: part of it is not on this machine, and ``download`` is off.
        ModelLoadError: there is no such folder or name, it is of another architecture, or files
            are missing or cut.
    """
    found = find_config(name_or_folder, download=download)
    folder = find_folder(name_or_folder, _FILE_PATTERNS, download=download)
    try:
        weights = _weight_files(folder)
    except ModelLoadError as exc:
        if not download and is_hub_name(name_or_folder):
            raise not_here(found.name) from exc
        raise
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        raise ModelLoadError(f"{folder} has no tokenizer.json and no vocab.json; download the checkpoint again")
    parameters = sum(tensor.count for path in weights for tensor in read_header(path).tensors.values())
    return CheckpointFiles(found.name, folder, found.config, weights=weights, parameters=parameters)


def find_config(name_or_folder: str | Path, *, download: bool = True) -> CheckpointConfig:
    """Find the configuration of a checkpoint, and check that it is of a kind that can be run.

    Args:
        name_or_folder, download: see :func:`find_checkpoint`.

    Raises:
        CheckpointNotHereError: it is not on this machine, and ``download`` is off.
        ModelLoadError: there is no such folder or name, or it is of another architecture.
    """
    name = str(name_or_folder)
    folder = find_folder(name_or_folder, ("config.json",), download=download)
    if not download and is_hub_name(name_or_folder) and not (folder / "config.json").is_file():
        raise not_here(name)
    if (folder / UNFINISHED).is_file():
        raise ModelLoadError(f"{name} holds a conversion that was stopped; run hybrid convert-gens again, it goes on")
    config = read_object(folder / "config.json")
    _check_kind(name, config.get("model_type"))
    return CheckpointConfig(name, folder, config)


def find_folder(
    name_or_folder: str | Path, patterns: tuple[str, ...], *, use: str = "--sampler FOLDER", download: bool = True
) -> Path:
    """The folder of a checkpoint; of a name on the hub, the folder that its files are downloaded to.

    Args:
        name_or_folder: see :func:`find_checkpoint`.
        patterns: names of the files that are needed; no others are downloaded.
        use: how the caller names a folder, for the text of an error.
        download: False: the hub is not contacted; its cache may hold only some of the files.

    Raises:
        CheckpointNotHereError: nothing of it is on this machine, and ``download`` is off.
        ModelLoadError: there is no such folder or name, or the hub cannot be reached.
    """
    name = str(name_or_folder)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_name(name_or_folder):
        raise ModelLoadError(f"there is no folder {name}; give a checkpoint's folder or a hub name (owner/name)")
    return _from_hub(name, patterns, use=use, download=download)


def is_hub_name(name_or_folder: str | Path) -> bool:
    """Whether a checkpoint is named as on the hub, and is no folder here."""
    name = str(name_or_folder)
    return not (isinstance(name_or_folder, Path) or _looks_like_path(name) or Path(name).expanduser().exists())


def not_here(name: str) -> CheckpointNotHereError:
    """The error for a checkpoint that would have to be downloaded first."""
    return CheckpointNotHereError(f"{name} is not on this machine yet")


def _check_kind(name: str, kind: object) -> None:
    """Refuse an architecture that cannot be run, before gigabytes are downloaded or read."""
    if kind == _ORIGINAL_ARIA:
        raise ModelLoadError(
            f"{name} is the original GenS on Aria (model_type {kind!r}), which has to be converted once: "
            f"hybrid convert-gens {name} FOLDER, then --sampler FOLDER"
        )
    if kind not in FAMILIES.names:
        raise ModelLoadError(
            f"{name} has the model_type {kind!r}; this version runs {' and '.join(FAMILIES.names)} only"
        )


def _looks_like_path(name: str) -> bool:
    repository = name.partition("@")[0]
    return repository.count("/") != 1 or repository.startswith((".", "~", "/")) or ":" in name or "\\" in name


def _from_hub(name: str, patterns: tuple[str, ...], *, use: str, download: bool) -> Path:
    """Download files of a checkpoint, or find them in the hub's cache; there alone if ``download`` is off."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    remedy = (
        f"download it on a machine that reaches the hub (hf download {repository} --local-dir FOLDER), "
        f"copy the folder, and use {use}"
    )
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(patterns),
                # Folders of a repository hold other things: checkpoints of its training, other formats.
                ignore_patterns=["*/*"],
                local_files_only=not download,
            )
        )
    except HFValidationError as exc:
        raise ModelLoadError(f"{name!r} is neither a folder nor a hub name (owner/name)") from exc
    except GatedRepoError as exc:
        raise ModelLoadError(f"the hub gives {name} only to users who accepted its terms; log in, or {remedy}") from exc
    except (RepositoryNotFoundError, RevisionNotFoundError) as exc:
        raise ModelLoadError(f"the hub has no {name}, or not for you; check the name, or give a folder") from exc
    except Exception as exc:  # network, proxy, disk and cache errors of many types; one seam for all
        if not download and isinstance(exc, LocalEntryNotFoundError):
            raise not_here(name) from exc
        raise ModelLoadError(f"{name} is not on this machine and the hub cannot be reached; {remedy}") from exc


def read_json(path: Path) -> Any:
    """The document in a file of a checkpoint.

    Raises:
        ModelLoadError: there is no such file, or it is not JSON within the limits.
    """
    try:
        return foreign_json.read_json(path, limits=_LIMITS)
    except FileNotFoundError as exc:
        raise ModelLoadError(f"{path} is missing; this folder holds no checkpoint, or not all of it") from exc
    except OSError as exc:
        raise ModelLoadError(f"{path} cannot be read: {exc}; download the checkpoint again") from exc
    except foreign_json.ForeignJsonError as exc:
        raise ModelLoadError(f"{exc}; download the checkpoint again") from exc


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint; errors as in :func:`read_json`."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise ModelLoadError(f"{path} is no JSON object; download the checkpoint again")
    return document


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that transformers would load."""
    if (folder / _SINGLE).is_file():
        return (folder / _SINGLE,)
    if not (folder / _INDEX).is_file():
        raise ModelLoadError(f"{folder} has no {_SINGLE} and no {_INDEX}; download the checkpoint again")
    return tuple(folder / name for name in sorted(set(read_weight_index(folder / _INDEX).values())))


def read_weight_index(path: Path) -> dict[str, str]:
    """The list of a checkpoint's weights: name of a tensor -> name of its file, which is there.

    Raises:
        ModelLoadError: it is damaged, lists nothing, or names a file that is not there.
    """
    try:
        file_of = {name: check_file_name(file) for name, file in read_json(path)["weight_map"].items()}
    except (KeyError, TypeError, AttributeError) as exc:
        raise ModelLoadError(f"{path} lists no weights: {first_line(exc)}; download the checkpoint again") from exc
    files = sorted(set(file_of.values()))
    absent = [file for file in files if not (path.parent / file).is_file()]
    if absent or not files:
        first = f", first {absent[0]}" if absent else ""
        raise ModelLoadError(
            f"{path.parent} lacks {len(absent)} of {len(files)} weight files{first}; download the checkpoint again"
        )
    return file_of


def check_file_name(name: object) -> str:
    """The name of a file in a checkpoint's folder, as a list of its weights states it.

    Raises:
        TypeError: it is something else, or leads out of the folder.
    """
    if not isinstance(name, str) or not name or "\0" in name or name == ".." or Path(name).name != name:
        raise TypeError(f"{ascii(name)[:120]} is not the name of a file beside it")
    return name


def read_header(path: Path) -> TensorHeader:
    """The tensors that a safetensors file lists, after a check that the file is not cut.

    Raises:
        ModelLoadError: the file is damaged, or cannot be read.
    """
    try:
        return read_tensor_header(path)
    except OSError as exc:
        raise ModelLoadError(f"{path} cannot be read: {exc}") from exc
    except InputError as exc:
        raise ModelLoadError(f"{exc}; download it again") from exc

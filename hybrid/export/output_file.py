"""Whether a file may be written at a path: its name fits what is written, and nothing foreign is replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import InputError

__all__ = ["ANSWERS", "EXPORT", "RAG", "OutputKind", "check_output"]


@dataclass(frozen=True, slots=True)
class OutputKind:
    """A kind of file that is written.

    Attributes:
        what: for messages.
        suffixes: legal endings of its name, the usual one first; none at all is legal too.
        begins: how such a file begins.
    """

    what: str
    suffixes: tuple[str, ...]
    begins: bytes


EXPORT = OutputKind("an exported index (a ZIP file)", (".zip", ".hybrid"), b"PK")
ANSWERS = OutputKind("answers (JSON lines)", (".jsonl", ".json", ".ndjson"), b"{")
RAG = OutputKind("a RAG file (JSON lines)", (".json", ".jsonl"), b"{")


def check_output(path: Path, kind: OutputKind, *, name: str, archive: str | None = None, video: str = "") -> None:
    """Refuse a path that does not fit, before any work is done.

    Args:
        path: where the file is to be written.
        kind: what it will be.
        name: of the argument or option that says so.
        archive: folder of the archive, in which no other files belong; None if there is none.
        video: the file, or the folder of images, that the command is about.

    Raises:
        InputError: the ending is that of another kind of file, a file of another kind is there, or the path is the
            video's or lies in its folder or in the archive.
    """
    usual = kind.suffixes[0]
    remedy = f"name another file, for instance {path.with_suffix(usual).name}"
    if path.suffix.lower() not in ("", *kind.suffixes):
        legal = " or ".join(kind.suffixes)
        raise InputError(
            f"{name} is {path}, but what is written there is {kind.what}; its name must end in {legal}: {remedy}"
        )
    resolved = path.expanduser().resolve()
    for folder, meaning in ((archive, "the archive"), (video, "the video")):
        if folder and Path(folder).expanduser().resolve() in (resolved, *resolved.parents):
            raise InputError(f"{name} is {path}, which belongs to {meaning} {folder}; write it elsewhere")
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(len(kind.begins))
        if head and head != kind.begins:
            raise InputError(f"{name} is {path}, a file that is not {kind.what} and would be lost; {remedy}")

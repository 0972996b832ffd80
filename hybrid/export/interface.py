"""What an answer exporter is: a form in which one answer is saved, with an option of ``hybrid ask``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from hybrid.answers import Answer
from hybrid.errors import InputError
from hybrid.export.output_file import OutputKind, check_output
from hybrid.values import ByteArray

__all__ = ["AnswerExporter", "Pictures"]

Pictures = Iterable[tuple[int, ByteArray]]
"""(ordinal, uint8 [H, W, 3] RGB) of an answer's frames, one after another; decoded as they are read."""


class AnswerExporter(ABC):
    """A form in which an answer is saved.

    Attributes:
        name: of the registry.
        flag: the option of ``hybrid ask`` that takes the path.
        help: of that option.
        kind: the kind of file that it writes; None: a folder.
    """

    name: ClassVar[str]
    flag: ClassVar[str]
    help: ClassVar[str]
    kind: ClassVar[OutputKind | None] = None

    def check(self, path: Path, *, archive: str | None = None, video: str = "") -> None:
        """Refuse a path that does not fit, before any work is done.

        Raises:
            InputError: a file lies where a folder is to be; or see :func:`hybrid.export.output_file.check_output`.
        """
        if self.kind is not None:
            check_output(path, self.kind, name=self.flag, archive=archive, video=video)
        elif path.exists() and not path.is_dir():
            raise InputError(f"{self.flag} is {path}, which is a file; name a folder, or a path where nothing lies")

    @abstractmethod
    def write(self, answer: Answer, pictures: Pictures, path: Path) -> None:
        """Save an answer; what an earlier call saved there is replaced, and nothing else.

        Args:
            answer: what to save.
            pictures: of its frames; a frame that cannot be decoded has none.
            path: file or folder; folders above it are made.

        Raises:
            SaveError: it cannot be written.
        """

"""The selected frames as PNG files, named by ordinal and time, with the answer beside them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hybrid.answers import Answer, AnswerFrame
from hybrid.errors import InputError, SaveError
from hybrid.export.interface import AnswerExporter, Pictures
from hybrid.storage.foreign_json import read_text

__all__ = ["EXPORTER", "ImagesExporter"]

ANSWER_FILE = "answer.json"


class ImagesExporter(AnswerExporter):
    """Each frame as ``frame_000011_11.011s.png``, and the answer as ``answer.json``."""

    name = "images"
    flag = "--frames-dir"
    help = "Save the frames here as PNG."

    def write(self, answer: Answer, pictures: Pictures, path: Path) -> None:
        """See the base class. The frames of an earlier answer in that folder are replaced."""
        from PIL import Image

        frames = {frame.ordinal: frame for frame in answer.frames}
        try:
            path.mkdir(parents=True, exist_ok=True)
            _remove_earlier(path)
            for ordinal, image in pictures:
                Image.fromarray(image).save(path / _name(frames[ordinal]))
            (path / ANSWER_FILE).write_text(answer.to_json() + "\n", encoding="ascii")
        except OSError as exc:
            raise SaveError(f"the frames cannot be saved in {path}: {exc.strerror or exc}") from exc


EXPORTER = ImagesExporter()


def _name(frame: AnswerFrame) -> str:
    return f"frame_{frame.ordinal:06d}_{frame.seconds:.3f}s.png"


def _remove_earlier(folder: Path) -> None:
    """Delete what an earlier call saved, as far as its own answer names it; nothing else."""
    file = folder / ANSWER_FILE
    if not file.exists():
        return
    with contextlib.suppress(InputError):
        for frame in Answer.from_json(read_text(file)).frames:
            (folder / _name(frame)).unlink(missing_ok=True)

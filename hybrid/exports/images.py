"""The selected frames as PNG files, named by ordinal and time, with the answer beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from hybrid.answers import Answer, AnswerFrame
from hybrid.errors import InputError, SaveError
from hybrid.storage.foreign_json import read_text
from hybrid.values import ByteArray

__all__ = ["save_frames"]

ANSWER_FILE = "answer.json"


def save_frames(answer: Answer, images: Iterable[tuple[int, ByteArray]], folder: Path) -> list[Path]:
    """Save each selected frame as ``frame_000011_11.011s.png`` and the answer as ``answer.json``.

    The frames of an earlier answer in that folder are replaced.

    Args:
        answer: names the frames.
        images: (ordinal, uint8 [H, W, 3] RGB), one after another; a frame without an image is left out.
        folder: made if it is not there.

    Returns:
        The files of the frames, in time order.

    Raises:
        SaveError: the folder cannot be written.
    """
    from PIL import Image

    frames = {frame.ordinal: frame for frame in answer.frames}
    saved = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_earlier(folder)
        for ordinal, image in images:
            place = folder / _name(frames[ordinal])
            Image.fromarray(image).save(place)
            saved.append(place)
        (folder / ANSWER_FILE).write_text(answer.to_json() + "\n", encoding="ascii")
    except OSError as exc:
        raise SaveError(f"the frames cannot be saved in {folder}: {exc.strerror or exc}") from exc
    return saved


def _name(frame: AnswerFrame) -> str:
    return f"frame_{frame.ordinal:06d}_{frame.seconds:.3f}s.png"


def _remove_earlier(folder: Path) -> None:
    """Delete what an earlier call saved, as far as its own answer names it; nothing else."""
    place = folder / ANSWER_FILE
    if not place.exists():
        return
    with contextlib.suppress(InputError):
        for frame in Answer.from_json(read_text(place)).frames:
            (folder / _name(frame)).unlink(missing_ok=True)

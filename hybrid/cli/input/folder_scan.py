"""Which videos lie below a folder, and what was passed over there, with the reason.

The rules, in one table each: endings that are scanned (:data:`VIDEO_ENDINGS`), pictures that may move
(:data:`MOVING_PICTURE_ENDINGS`), folders that are not looked into (:data:`SYSTEM_FOLDERS` and the two below it).
They hold below a folder that was named; what is named itself is taken whatever it is called.
"""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from hybrid.formatting import plural
from hybrid.values import IMAGE_SUFFIXES

__all__ = [
    "MOVING_PICTURE_ENDINGS",
    "VIDEO_ENDINGS",
    "PassedOver",
    "is_image_folder",
    "is_numbered_image",
    "videos_below",
]

VIDEO_ENDINGS = frozenset(
    """
    .264 .265 .3g2 .3gp .amv .apng .asf .avc .avi .dif .divx .dv .f4v .flv .gxf .h261 .h263 .h264 .h265 .h266 .hevc
    .ivf .m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mov .mp4 .mpeg .mpg .mpv .mts .mxf .nsv .nut
    .obu .ogm .ogv .qt .rm .rmvb .tod .trp .ts .vob .vvc .webm .wmv .wtv .y4m
    """.split()  # noqa: SIM905
)
MOVING_PICTURE_ENDINGS = frozenset({".avif", ".avifs", ".gif", ".webp"})
"""A picture with more than one frame is a video, one with a single frame is not. One that cannot be read is taken for
a video, so that it is reported, but does not keep a folder of numbered images from being one."""
SYSTEM_FOLDERS = frozenset(
    """
    #recycle #snapshot $recycle.bin @eadir @recently-snapshot @recycle __macosx extrafanart extrathumbs lost+found
    recycler
    """.split()  # noqa: SIM905
) | {"system volume information"}
"""Folders of deleted files, of the system, and of players' pictures, in lower case; and all that begin with a dot."""
TILE_ENDING = ".trickplay"
"""How a folder's name ends in which a player keeps sheets of small pictures for its time bar."""
TEXT_ENDINGS = frozenset({".mts", ".ts"})
"""Endings of MPEG-TS that programs in TypeScript share."""
_NUMBERED = re.compile(r".*\d")
_LOOKED_AT = 16
"""So many of a folder's numbered pictures are opened to see whether they move."""
_LISTED = 4
"""So many endings, or folders, are listed in a summary."""


@dataclass(slots=True)
class PassedOver:
    """What a scan of folders passed over.

    Attributes:
        endings: files of kinds that are not scanned, by ending.
        reasons: everything else, by reason.
        unreadable: folders that could not be read, with the system's reason.
    """

    endings: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.endings or self.reasons or self.unreadable)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for ``json.dumps``."""
        return {
            "endings": dict(self.endings.most_common()),
            "reasons": dict(self.reasons.most_common()),
            "unreadable": self.unreadable,
        }

    def line(self) -> str:
        """One line for people."""
        parts = []
        if self.endings:
            common = self.endings.most_common(_LISTED)
            listed = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in common)
            more = ", ..." if len(self.endings) > _LISTED else ""
            files = plural(self.endings.total(), "file of another kind", "files of other kinds")
            parts.append(f"{files} ({listed}{more})")
        parts += [f"{count} x {reason}" for reason, count in self.reasons.most_common()]
        if self.unreadable:
            more = ", ..." if len(self.unreadable) > _LISTED else ""
            folders = plural(len(self.unreadable), "folder that cannot be read", "folders that cannot be read")
            parts.append(f"{folders} ({', '.join(self.unreadable[:_LISTED])}{more})")
        return f"passed over: {'; '.join(parts)}"


def videos_below(folder: Path, passed: PassedOver) -> Iterator[Path]:
    """The videos and image folders below a folder, in no order, as they are come upon.

    Links to folders are followed; every folder is looked into once, so that circles end, and under its own name
    rather than a link's.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = deque([folder]), deque[Path]()
    while folders or links:
        current = folders.popleft() if folders else links.popleft()
        try:
            state = current.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(current) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as exc:
            passed.unreadable.append(f"{current}: {exc.strerror or exc}")
            continue
        if _shows_images(found):
            yield current
            continue
        for entry in found:
            if _is(entry.is_dir):
                reason = _why_not_entered(entry.name)
                if reason is not None:
                    passed.reasons[reason] += 1
                else:
                    (links if entry.is_symlink() else folders).append(Path(entry))
            elif _is_taken(entry, passed):
                yield Path(entry)


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds numbered images, and no videos or folders, and so is a video itself."""
    try:
        with os.scandir(folder) as entries:
            return _shows_images(sorted(entries, key=lambda entry: entry.name))
    except OSError:
        return False


def is_numbered_image(name: str) -> bool:
    """Whether a file is called like an image of a folder that is a video."""
    stem, ending = os.path.splitext(name)
    return ending.lower() in IMAGE_SUFFIXES and not name.startswith(".") and _NUMBERED.fullmatch(stem) is not None


def _shows_images(entries: list[os.DirEntry[str]]) -> bool:
    images = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is(entry.is_dir):
            if _why_not_entered(entry.name) is None:
                return False
        elif _ending(entry.name) in VIDEO_ENDINGS:
            return False
        elif is_numbered_image(entry.name):
            images.append(entry)
    moving = (entry for entry in images if _ending(entry.name) in MOVING_PICTURE_ENDINGS)
    return bool(images) and not any(_moves(entry.path) is True for entry in islice(moving, _LOOKED_AT))


def _why_not_entered(name: str) -> str | None:
    lower = name.lower()
    if lower in SYSTEM_FOLDERS or lower.startswith((".trash", ".@__")):
        return "folder of the system or of a player"
    if lower.endswith(TILE_ENDING):
        return "folder of a player's tile sheets"
    return "hidden folder" if name.startswith(".") else None


def _is_taken(entry: os.DirEntry[str], passed: PassedOver) -> bool:
    """Whether a file is a video by its name, and what else must be looked at; if not, the reason is counted."""
    ending = _ending(entry.name)
    moving = ending in MOVING_PICTURE_ENDINGS
    if ending not in VIDEO_ENDINGS and not moving:
        passed.endings[ending] += 1
        return False
    reason = None
    if entry.name.startswith("."):
        reason = "hidden file"
    elif not _is(entry.is_file):
        reason = "broken link" if entry.is_symlink() else "pipe, socket or device"
    elif moving and _moves(entry.path) is False:
        reason = "picture that does not move"
    elif ending in TEXT_ENDINGS and _is_text(entry.path):
        reason = f"text called {ending}"
    if reason is not None:
        passed.reasons[reason] += 1
    return reason is None


def _is(test: Callable[[], bool]) -> bool:
    """What an entry's own test says; False where it leads nowhere (a link to itself)."""
    try:
        return test()
    except OSError:
        return False


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _moves(path: str) -> bool | None:
    """Whether a picture has more than one frame; None if it cannot be read."""
    from hybrid.errors import FrameDecodeError
    from hybrid.image_file import read_header

    try:
        return read_header(Path(path)).several
    except FrameDecodeError:
        return None


def _is_text(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    return bool(head) and b"\0" not in head

"""From what stands on the command line to the videos that are meant."""

from __future__ import annotations

import glob
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybrid.errors import InputError
from hybrid.places import absolute_path
from hybrid.values import IMAGE_SUFFIXES
from hybrid.words import counted

__all__ = ["VIDEO_ENDINGS", "check_one_video", "find_videos", "is_image_folder"]

VIDEO_ENDINGS = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv".split()  # noqa: SIM905
)
_NUMBERED = re.compile(r".*\d")
_MOST_COUNTED = 100
"""So many videos are counted where only the first one matters."""
_APPLE_DOUBLE = "._"
"""How macOS begins the names of the files in which it keeps what other file systems have no place for, one beside
each video and with its ending."""


def find_videos(arguments: Iterable[str]) -> list[Path]:
    """The videos that files, folders and patterns stand for, in a stable order, each once.

    A file is taken whatever it is called. A folder of numbered images is one video; any other
    folder stands for the videos below it (known by their endings) and the image folders below it,
    but not for macOS's companions of files (``._a.mp4``).

    Raises:
        InputError: an argument matches nothing, or a folder holds no video.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        place = Path(argument).expanduser()
        if place.is_dir():
            videos = [place] if is_image_folder(place) else _below(place)
            if not videos:
                raise InputError(
                    f"{argument}: no video below this folder (looked for {' '.join(sorted(VIDEO_ENDINGS))})"
                )
        elif place.exists():
            videos = [place]
        else:
            # The shell has expanded unquoted patterns already; quoted ones come here.
            videos = [Path(name) for name in sorted(glob.glob(str(place), recursive=True)) if not Path(name).is_dir()]
            if not videos:
                raise InputError(f"{argument}: there is no such file or folder, and as a pattern it matches nothing")
        for video in videos:
            found.setdefault(absolute_path(video), video)
    return list(found.values())


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds numbered images, and no videos or folders, and so is a video itself."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(_APPLE_DOUBLE)]
    except OSError:
        return False
    if any(entry.is_dir() or entry.suffix.lower() in VIDEO_ENDINGS for entry in entries):
        return False
    return any(map(_is_numbered_image, entries))


def check_one_video(argument: str, *, archive: str) -> None:
    """Refuse a folder of videos where one video is meant.

    Args:
        argument: what stands for the video.
        archive: the one that is asked, for the commands that the error suggests.

    Raises:
        InputError: it is a folder without numbered images, and there are videos below it.
    """
    place = Path(argument).expanduser()
    try:
        if not place.is_dir() or any(_is_numbered_image(entry) for entry in place.iterdir()):
            return
    except OSError:  # may not be looked into, which is said where the video is opened
        return
    videos = list(itertools.islice(_videos_below(place), _MOST_COUNTED + 1))
    if videos:
        count = counted(len(videos), "video") if len(videos) <= _MOST_COUNTED else f"more than {_MOST_COUNTED} videos"
        given = shlex.join(["--archive", archive])
        raise InputError(
            f"{argument} is a folder with {count}, and a question is asked about one: name it "
            f"({shlex.quote(str(min(videos)))}), or search them all: hybrid index {shlex.quote(argument)} {given}, "
            f"then hybrid search QUESTION {given}"
        )


def _is_numbered_image(entry: Path) -> bool:
    return entry.suffix.lower() in IMAGE_SUFFIXES and _NUMBERED.fullmatch(entry.stem) is not None


def _below(folder: Path) -> list[Path]:
    return sorted(_videos_below(folder))


def _videos_below(folder: Path) -> Iterator[Path]:
    """In no order, as they are come upon."""
    for place in folder.rglob("*"):
        if place.is_dir():
            if is_image_folder(place):
                yield place
        elif place.suffix.lower() in VIDEO_ENDINGS and not place.name.startswith(_APPLE_DOUBLE):
            yield place

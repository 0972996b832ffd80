"""From what stands on the command line to the videos that are meant."""

from __future__ import annotations

import glob
import itertools
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hybrid.cli.input.folder_scan import (
    MOVING_PICTURE_ENDINGS,
    VIDEO_ENDINGS,
    PassedOver,
    is_image_folder,
    is_numbered_image,
    videos_below,
)
from hybrid.errors import InputError
from hybrid.formatting import plural
from hybrid.storage.file_identity import absolute_path

__all__ = ["FoundVideos", "check_one_video", "find_videos"]

_MOST_COUNTED = 100
"""So many videos are counted where only the first one matters."""


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """What arguments stand for.

    Attributes:
        videos: paths in a stable order, each once.
        passed_over: what lies in the folders besides.
    """

    videos: list[Path]
    passed_over: PassedOver


def find_videos(arguments: Iterable[str]) -> FoundVideos:
    """The videos that files, folders and patterns stand for.

    A file is taken whatever it is called. A folder of numbered images is one video; any other folder stands for the
    videos and image folders below it, by the rules of :mod:`hybrid.cli.input.folder_scan`.

    Raises:
        InputError: an argument matches nothing, or no folder holds a video.
    """
    found: dict[str, Path] = {}
    passed = PassedOver()
    empty: InputError | None = None
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            videos = [path] if is_image_folder(path) else sorted(videos_below(path, passed))
            if not videos:
                besides = f"; {passed.line()}" if passed else ""
                endings = " ".join(sorted(VIDEO_ENDINGS | MOVING_PICTURE_ENDINGS))
                empty = InputError(f"{argument}: no video below this folder (looked for {endings}){besides}")
                passed.reasons["folder without a video"] += 1
        elif path.exists():
            videos = [path]
        else:
            # The shell has expanded unquoted patterns already; quoted ones come here.
            videos = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if not Path(name).is_dir()]
            if not videos:
                raise InputError(f"{argument}: there is no such file or folder, and as a pattern it matches nothing")
        for video in videos:
            found.setdefault(absolute_path(video), video)
    if empty is not None and not found:
        raise empty
    return FoundVideos(list(found.values()), passed)


def check_one_video(argument: str, *, archive: str) -> None:
    """Refuse a folder of videos where one video is meant.

    Args:
        argument: what stands for the video.
        archive: the one that is asked, for the commands that the error suggests.

    Raises:
        InputError: it is a folder without numbered images, and there are videos below it.
    """
    path = Path(argument).expanduser()
    try:
        if not path.is_dir() or any(map(is_numbered_image, os.listdir(path))):
            return
    except OSError:  # may not be looked into, which opening the video reports
        return
    videos = list(itertools.islice(videos_below(path, PassedOver()), _MOST_COUNTED + 1))
    if videos:
        count = plural(len(videos), "video") if len(videos) <= _MOST_COUNTED else f"more than {_MOST_COUNTED} videos"
        given = shlex.join(["--archive", archive])
        raise InputError(
            f"{argument} is a folder with {count}, and a question is asked about one: name it "
            f"({shlex.quote(str(min(videos)))}), or search them all: hybrid index {shlex.quote(argument)} {given}, "
            f"then hybrid search QUESTION {given}"
        )

"""One name for one place on disk, however somebody came to it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["absolute_path"]


def absolute_path(path: str | Path) -> str:
    """A path from the root on, without ``.`` and ``..``, so that a place has one name. It need not be there.

    Links keep their names: a video is known by the path that its owner gave it. Only where ``..``
    follows a link is the link's target named, because that is whose parent is meant.

    >>> absolute_path("/videos/new/../a.mp4"), absolute_path("/videos//./a.mp4")
    ('/videos/a.mp4', '/videos/a.mp4')
    """
    full = Path(path).absolute()
    if ".." in full.parts:
        end = len(full.parts) - full.parts[::-1].index("..")
        climbed, rest = os.path.join(*full.parts[:end]), full.parts[end:]
        target = os.path.realpath(climbed)
        if target != os.path.realpath(os.path.normpath(climbed)):
            return os.path.join(target, *rest)
    return os.path.normpath(full)

"""Every error that hybrid raises on purpose.

::

    HybridError                   base; its text is one readable line
    +-- InputError                the caller's value is wrong (a question, a number, an option)
    +-- VideoError                something about one video
    |   +-- VideoOpenError        cannot be opened, or is no video
    |   +-- NoVideoStreamError    opens, but holds no video stream
    |   +-- FrameDecodeError      opened, but no frame at all could be decoded
    +-- ModelError                something about a checkpoint
    |   +-- ModelLoadError        missing, damaged, or of a kind that is not supported
    |   +-- OutOfMemoryError      the device's memory did not suffice
    +-- ArchiveError              something about an archive on disk
    |   +-- ArchiveFormatError    not an archive, or written by a newer version
    |   +-- VideoNotIndexedError  the archive does not hold this video
    |   +-- IndexMismatchError    the index was made with another configuration
    |   +-- IndexDamagedError     a stored file is cut, altered or gone
    |   +-- ArchiveLockedError    another process is writing
    |   +-- ArchiveUnreachableError   the object store that holds it does not answer, or refuses
    |   +-- ArchiveUnwritableError    it takes nothing more: disk full, read-only, not allowed, lost
    +-- StageFailedError          a stage did not run and the caller asked for strictness
    +-- SaveError                 a picture or an answer could not be saved
    +-- MissingDependencyError    an optional package is not installed

The text of an error says what happened, the value, what is legal, and the next command. Foreign
exceptions are turned into these at one seam each (the decoder, the model loader, the index
backend), with ``from``. :data:`ENDS_RUN` are those that would meet every further video of a run as well.
"""

from __future__ import annotations

__all__ = [
    "ENDS_RUN",
    "ArchiveError",
    "ArchiveFormatError",
    "ArchiveLockedError",
    "ArchiveUnreachableError",
    "ArchiveUnwritableError",
    "FrameDecodeError",
    "HybridError",
    "IndexDamagedError",
    "IndexMismatchError",
    "InputError",
    "MissingDependencyError",
    "ModelError",
    "ModelLoadError",
    "NoVideoStreamError",
    "OutOfMemoryError",
    "SaveError",
    "StageFailedError",
    "VideoError",
    "VideoNotIndexedError",
    "VideoOpenError",
    "first_line",
]


def first_line(error: BaseException, *, limit: int = 300) -> str:
    """A foreign error in one line: its kind, and as much of its text as a reader wants to see."""
    text = " ".join(str(error).split())
    if len(text) > limit:
        text = text[:limit] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class HybridError(Exception):
    """Base of every error that hybrid raises on purpose. ``str(error)`` is one readable line."""


class InputError(HybridError, ValueError):
    """A value given by the caller is not legal."""


class VideoError(HybridError):
    """Something is wrong with one video."""


class VideoOpenError(VideoError):
    """The path does not exist, cannot be read, or is not a video."""


class NoVideoStreamError(VideoOpenError):
    """The container opens but holds no video stream (audio only, cover art)."""


class FrameDecodeError(VideoError):
    """The stream opened, but not a single frame of it could be decoded."""


class ModelError(HybridError):
    """Something is wrong with a checkpoint."""


class ModelLoadError(ModelError):
    """A checkpoint is missing, damaged, or of a kind that is not supported."""


class OutOfMemoryError(ModelError):
    """The memory of the device did not suffice for a model or an input."""


class ArchiveError(HybridError):
    """Something is wrong with an archive on disk."""


class ArchiveFormatError(ArchiveError):
    """The folder is not an archive, or its format is newer than this version reads."""


class VideoNotIndexedError(ArchiveError):
    """The archive holds no complete index of this video."""


class IndexMismatchError(ArchiveError):
    """The index was made with another encoder, rate or policy than the caller asks for."""


class IndexDamagedError(ArchiveError):
    """A stored file is cut, altered or gone."""


class ArchiveLockedError(ArchiveError):
    """Another process holds the lock that this one needs."""


class ArchiveUnreachableError(ArchiveError):
    """The object store that holds the archive cannot be reached, or refuses what is asked of it."""


class ArchiveUnwritableError(ArchiveError):
    """The archive takes nothing more: its disk is full, read-only, lost, or may not be written."""


class StageFailedError(HybridError):
    """A stage did not run as asked, and the caller wanted that to be a failure (``strict``)."""


class SaveError(HybridError):
    """What an export made could not be written."""


class MissingDependencyError(HybridError, ImportError):
    """An optional package is not installed; the text holds the command that installs it."""


ENDS_RUN = (ModelError, MissingDependencyError, ArchiveUnreachableError, ArchiveUnwritableError)
"""What would meet every further video of a run as well. A video that cannot be read is another matter: others
may lie on other disks."""

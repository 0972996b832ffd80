"""How long work tells how far it is. The engine reports; who shows it, and how, is not its concern."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NullProgress", "Progress"]


class Progress(Protocol):
    """Told of the work on one video after another."""

    def start(self, video: str) -> None:
        """Work on a video begins."""
        ...

    def expect(self, frames: int | None) -> None:
        """The video has about so many samples (None: that shows only while decoding)."""
        ...

    def stage(self, name: str) -> None:
        """The stage that begins: ``hash``, ``load``, ``embed`` (decoding and embedding), ``features``, ``write``."""
        ...

    def advance(self, frames: int) -> None:
        """So many more samples are embedded."""
        ...

    def finish(self, outcome: str) -> None:
        """Work on the video has ended: ``indexed``, ``unchanged`` or ``failed``."""
        ...


class NullProgress:
    """Tells nobody."""

    def start(self, video: str) -> None:
        """Nothing."""

    def expect(self, frames: int | None) -> None:
        """Nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def advance(self, frames: int) -> None:
        """Nothing."""

    def finish(self, outcome: str) -> None:
        """Nothing."""

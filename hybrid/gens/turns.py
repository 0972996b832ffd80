"""One run of a model at a time, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.errors import InputError

__all__ = ["Turns"]


class Turns:
    """For runs that call listeners: other threads wait for their turn, a listener is told that it cannot ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running_in: int | None = None

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for one's turn, and have it until the block ends.

        Raises:
            InputError: it is this thread's turn already; it would wait for itself.
        """
        if self._running_in == threading.get_ident():
            raise InputError("a listener cannot ask the model that it is listening to; ask when the call has returned")
        with self._lock:
            self._running_in = threading.get_ident()
            try:
                yield
            finally:
                self._running_in = None

"""Runs of a model that call listeners: who may start one while another is under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.errors import InputError

__all__ = ["Runs", "Turns"]


class Runs:
    """Each thread has one run at a time, beside those of the others: a listener is told that it cannot ask."""

    def __init__(self) -> None:
        self._threads: set[int] = set()

    @contextmanager
    def begin(self) -> Iterator[None]:
        """A run of this thread, until the block ends.

        Raises:
            InputError: this thread has a run that is under way.
        """
        own = threading.get_ident()
        if own in self._threads:
            raise InputError("a listener cannot ask the model that it is listening to; ask when the call has returned")
        self._threads.add(own)
        try:
            yield
        finally:
            self._threads.discard(own)


class Turns:
    """For a model that does one run at a time, whoever asks: other threads wait for their turn."""

    def __init__(self) -> None:
        self._runs = Runs()
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for one's turn, and have it until the block ends.

        Raises:
            InputError: it is this thread's turn already; it would wait for itself.
        """
        with self._runs.begin(), self._lock:
            yield

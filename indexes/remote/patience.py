"""How long an object store that does not answer is asked again: one rule for all requests of an archive.

Its clients send a request again a few times at once. What still fails is done again as a whole, with growing
pauses, until the store has been silent for :data:`PATIENCE_SECONDS`; then, and for what is tried after that, the first
failure counts, so that cleaning up behind a failure does not wait for each of its steps. One that has never
answered, which is a wrong address more often than an outage, is given up sooner.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from hybrid.errors import ArchiveUnreachableError

__all__ = ["CLIENT_RETRIES", "CLIENT_SECONDS", "FIRST_ANSWER_SECONDS", "PATIENCE_SECONDS", "Patience"]

PATIENCE_SECONDS = 30.0
FIRST_ANSWER_SECONDS = 3.0
CLIENT_RETRIES = 3
CLIENT_SECONDS = 20
"""For how long a client begins to send a request again. One that is not answered at all ends after its own 30 s."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

_T = TypeVar("_T")


class Patience:
    """Knows since when a store has been silent. Safe for several threads."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """
        Args:
            clock: tells seconds from any beginning on.
            sleep: waits for so many.
        """
        self._clock, self._sleep = clock, sleep
        self._answered = False
        self._silent_since: float | None = None

    def ask(self, action: Callable[[], _T]) -> _T:
        """Do something that may be done again if it failed halfway.

        Raises:
            ArchiveUnreachableError: the store has not answered for :data:`PATIENCE_SECONDS`, or for
                :data:`FIRST_ANSWER_SECONDS` if it never did.
        """
        began = self._clock()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = action()
            except ArchiveUnreachableError:
                now = self._clock()
                if self._silent_since is None:
                    self._silent_since = now
                # Also where others are answered meanwhile: an action of many requests may fail each time.
                if now - min(began, self._silent_since) >= (
                    PATIENCE_SECONDS if self._answered else FIRST_ANSWER_SECONDS
                ):
                    raise
                self._sleep(random.uniform(0.5, 1.0) * pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._answered, self._silent_since = True, None
                return result

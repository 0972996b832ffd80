"""Takes prompts, decodes as many rows as memory admits, and yields replies.

Prompts of one window are read one after another, so that the window's prefix is computed or fetched once. A finished
reply leaves at once, and the next prompt takes its row (continuous batching, as in Orca, OSDI 2022). The result of a
row does not depend on the rows beside it, so a reply is the same in any batch, up to rounding.

There is one scheduler per model, without a thread of its own: a caller that waits for an event takes a step for the
prompts of all callers, and puts the others' events into their queues. The lock is held for one step, never while a
caller handles its events. So prompts may arrive while others are written, and a suspended caller blocks nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import torch

from hybrid.errors import OutOfMemoryError
from hybrid.fine.decoding.decoder_layers import TextStack
from hybrid.fine.decoding.grammar import GrammarTables
from hybrid.fine.decoding.prefix_cache import Prefix, PrefixCache
from hybrid.fine.decoding.rows import PlainSteps, RowBuffers, Steps, read_suffixes
from hybrid.fine.decoding.sampling import Choice
from hybrid.fine.writer import Reply, ReplyFailed, ReplyWritten, TokensWritten, Written
from hybrid.runtime import out_of_memory_as_error

__all__ = ["Prompt", "Scheduler"]

_LOG = logging.getLogger(__name__)

SUFFIX_TOKENS_AT_ONCE = 8192
_REFILL_SHARE = 8
_STEPS_BETWEEN_LOOKS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What a reply is written to.

    Attributes:
        key: identifies everything that decides the prefix.
        prefix_tokens: length of the prefix.
        make_prefix: computes the prefix; called only where the cache has none of this key.
        suffix: token ids behind the prefix.
        limit: the longest reply, in tokens.
        tables: the form of the reply; None where it is free.
        what: what the prefix stands for, for the text of an error.
    """

    key: str
    prefix_tokens: int
    make_prefix: Callable[[], Prefix]
    suffix: Sequence[int]
    limit: int
    tables: GrammarTables | None = None
    what: str = "a window"


@dataclass(slots=True, eq=False)
class _Call:
    """One call of :meth:`Scheduler.run`.

    Attributes:
        unfinished: how many of its prompts have no last event yet.
        events: those that the caller has not taken yet, by index; one of an index replaces the one before.
        closed: whether the caller left; its prompts are then dropped.
    """

    unfinished: int
    events: dict[int, Written] = field(default_factory=dict)
    closed: bool = False

    def end(self, event: ReplyWritten | ReplyFailed) -> None:
        self.events[event.index] = event
        self.unfinished -= 1


@dataclass(slots=True, eq=False)
class _Waiting:
    """A prompt that has no row yet."""

    call: _Call
    index: int
    prompt: Prompt


@dataclass(slots=True, eq=False)
class _Row:
    """A reply that is being written."""

    source: _Waiting
    prefix: Prefix
    reused: bool
    ids: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"prefix": 0.0, "prefill": 0.0, "decode": 0.0})

    @property
    def prompt(self) -> Prompt:
        return self.source.prompt

    @property
    def tail(self) -> int:
        """Tokens of its tail with the one that is read next."""
        return len(self.prompt.suffix) + len(self.ids)


class Scheduler:
    """Writes replies with one model, for any number of callers at a time.

    Args:
        stack: the model.
        choice: chooses tokens; has ``batch`` rows.
        cache: keeps prefixes.
        batch: how many replies are written at once, at most.
        graphs: replay recorded steps (:mod:`hybrid.fine.decoding.cuda_graphs`); needs Triton.
    """

    def __init__(
        self, stack: TextStack, choice: Choice, cache: PrefixCache, *, batch: int, graphs: bool = False
    ) -> None:
        self.cache = cache
        self._stack = stack
        self._choice = choice
        self._batch = batch
        self._buffers = RowBuffers(stack, rows=batch)
        # Elsewhere than on a CPU, looking at the tokens makes the device wait for the host.
        self._count = 1 if stack.device.type == "cpu" else _STEPS_BETWEEN_LOOKS
        self._steps: Steps = PlainSteps(stack, self._buffers, choice)
        if graphs:
            from hybrid.fine.decoding.cuda_graphs import RecordedSteps

            self._steps = RecordedSteps(stack, self._buffers, choice, most=batch)
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._rows: list[_Row] = []
        self._most_rows = batch
        self._filling = False
        """Whether the last step took prompts in, so that the next one tries to take in more."""
        self._tried = 0
        """The number of active rows at the last allocation."""

    def run(self, prompts: Sequence[Prompt]) -> Generator[Written, None, None]:
        """Write the replies to prompts; events name them by their index.

        If memory runs out with several rows busy, fewer are busy from then on, until nothing is left to do. Any
        other error is met in the same way, so that it ends the reply whose fault it is and no other.

        Yields:
            Of each prompt tokens, as far as the caller keeps up, and one :class:`ReplyWritten` or
            :class:`ReplyFailed`.
        """
        call = _Call(unfinished=len(prompts))
        try:
            with self._lock:
                self._waiting.extend(_by_key(call, prompts))
            while call.events or call.unfinished:
                yield from self._advance(call)
        finally:
            call.closed = True
            # Never waited for: a generator may be closed by garbage collection, in a thread that is in a step.
            if self._lock.acquire(blocking=False):
                try:
                    self._drop_closed()
                finally:
                    self._lock.release()

    def _advance(self, call: _Call) -> list[Written]:
        """Take a step, unless another caller's step brought events of this call; give its events."""
        with self._lock:
            self._drop_closed()
            if not call.events:
                try:
                    with torch.inference_mode():
                        self._step()
                except Exception as exc:
                    self._isolate(exc)
                except BaseException:
                    self._begin_again()
                    raise
                finally:
                    self._drop_closed()
            events = list(call.events.values())
            call.events.clear()
            return events

    def _isolate(self, exc: Exception) -> None:
        """After an error: begin again with fewer rows; if only one prompt can have caused it, end that one."""
        if self._most_rows > 1 and len(self._rows) + len(self._waiting) > 1:
            self._begin_again()
            self._most_rows = min(self._most_rows // 2, max(self._tried // 2, 1))
            self.cache.drop_idle()
            self._buffers.drop()
            _LOG.warning("%s; going on with %d questions at once", exc, self._most_rows)
            return
        self._begin_again()
        failed = self._waiting.popleft()
        failed.call.end(ReplyFailed(failed.index, exc))
        if not isinstance(exc, OutOfMemoryError):
            self._most_rows = self._batch

    def _begin_again(self) -> None:
        """Put the prompts of all rows back at the front of the queue."""
        self._waiting.extendleft([row.source for row in reversed(self._rows)])
        self._release(self._rows)
        self._filling = False

    def _drop_closed(self) -> None:
        """Drop the prompts of callers that left; with nothing left to do, give memory back."""
        if any(each.call.closed for each in self._waiting):
            self._waiting = deque(each for each in self._waiting if not each.call.closed)
        with torch.inference_mode():
            for number in reversed(range(len(self._rows))):
                if self._rows[number].source.call.closed:
                    self._remove(number)
        if not self._rows and not self._waiting:
            self._most_rows, self._filling = self._batch, False
            if self._stack.device.type == "cpu":
                self._buffers.drop()

    def _step(self) -> None:
        """Take new prompts in, if enough rows are free and there is memory; else decode a few tokens."""
        free = self._most_rows - len(self._rows)
        # As many questions are read together as memory admits; that some wait for the next such pass is no reason to
        # decode without them.
        worth = self._filling or not self._rows or free * _REFILL_SHARE >= self._most_rows
        self._filling = bool(worth and free > 0 and self._waiting) and self._take_in(free)
        if self._rows and not self._filling:
            self._decode()

    def _take_in(self, free: int) -> bool:
        """Begin as many of the waiting prompts as memory admits; returns whether it admitted any."""
        new: list[_Row] = []
        tokens = 0
        try:
            while self._waiting and len(new) < free:
                waiting = self._waiting[0]
                tokens += len(waiting.prompt.suffix)
                nbytes = waiting.prompt.prefix_tokens * self._stack.bytes_per_token
                crowded = tokens > SUFFIX_TOKENS_AT_ONCE or not self.cache.has_room(waiting.prompt.key, nbytes)
                if crowded and (new or self._rows):
                    break
                new.append(self._begin(waiting, nbytes))
                self._waiting.popleft()
            first_tokens = self._read_suffixes(new) if new else []
        except BaseException:
            self._tried = len(self._rows) + len(new)
            self._waiting.extendleft([row.source for row in reversed(new)])
            self._release(new)
            raise
        self._rows += new
        self._note(first_tokens, first=len(self._rows) - len(new))
        return bool(new)

    def _begin(self, waiting: _Waiting, nbytes: int) -> _Row:
        prompt, started = waiting.prompt, time.perf_counter()
        with out_of_memory_as_error(prompt.what):
            try:
                prefix, reused = self.cache.take(prompt.key, nbytes, prompt.make_prefix)
            except (torch.OutOfMemoryError, MemoryError):
                self.cache.drop_idle()
                prefix, reused = self.cache.take(prompt.key, nbytes, prompt.make_prefix)
            try:
                self._wait()
            except BaseException:  # an interrupt most likely comes here, where a GPU is waited for
                self.cache.release(prefix)
                raise
        row = _Row(waiting, prefix, reused)
        row.seconds["prefix"] = time.perf_counter() - started
        return row

    def _read_suffixes(self, new: list[_Row]) -> list[list[int]]:
        """Read the questions of new rows, and choose the first token of each."""
        started = time.perf_counter()
        first = len(self._rows)
        device = self._stack.device
        with out_of_memory_as_error(_joint("a question about", new)):
            longest = max(row.tail for row in [*self._rows, *new])
            self._buffers.reserve(first + len(new), longest + self._count)
            for number, row in enumerate(new, start=first):
                suffix = torch.tensor(row.prompt.suffix, device=device)
                tokens = torch.cat([row.prefix.token_ids, suffix])
                self._choice.open(number, tokens, limit=row.prompt.limit, tables=row.prompt.tables)
            chosen = read_suffixes(
                self._stack,
                self._buffers,
                self._choice,
                [row.prefix for row in new],
                [row.prompt.suffix for row in new],
                first_row=first,
            ).tolist()
        share = (time.perf_counter() - started) / len(new)
        for row in new:
            row.seconds["prefill"] += share
        return [[token] for token in chosen]

    def _decode(self) -> None:
        started = time.perf_counter()
        rows = self._rows
        longest = max(row.tail for row in rows)
        self._tried = len(rows)
        with out_of_memory_as_error(_joint("a reply about", rows)):
            steps = self._steps([row.prefix for row in rows], longest=longest, count=self._count)
            chosen: list[list[int]] = steps.tolist()
        share = (time.perf_counter() - started) / len(rows)
        for row in rows:
            row.seconds["decode"] += share
        self._note(chosen, first=0)

    def _note(self, chosen: list[list[int]], *, first: int) -> None:
        """Note the tokens of rows from ``first`` on, and let finished rows go."""
        finished: list[int] = []
        for number, tokens in enumerate(chosen, start=first):
            row = self._rows[number]
            done = False
            for token in tokens:
                row.ids.append(token)
                done = self._choice.closes(token) or len(row.ids) >= row.prompt.limit
                if done:
                    break
            call, index = row.source.call, row.source.index
            if done:
                finished.append(number)
                call.end(ReplyWritten(index, self._reply(number, row)))
            else:
                call.events[index] = TokensWritten(index, row.ids)
        for number in reversed(finished):
            self._remove(number)

    def _reply(self, number: int, row: _Row) -> Reply:
        return Reply(
            ids=tuple(row.ids),
            cut=not self._choice.closes(row.ids[-1]),
            forced=self._choice.forced(number),
            prompt_tokens=row.prefix.length + len(row.prompt.suffix),
            reused_tokens=row.prefix.length if row.reused else 0,
            seconds=dict(row.seconds),
        )

    def _remove(self, number: int) -> None:
        """Remove a row; the last row takes its number."""
        self.cache.release(self._rows[number].prefix)
        last = self._rows.pop()
        if number < len(self._rows):
            # The token that was chosen last is not in the tail yet.
            self._buffers.move(len(self._rows), number, last.tail)
            self._choice.move(len(self._rows), number)
            self._rows[number] = last

    def _release(self, rows: list[_Row]) -> None:
        for row in rows:
            self.cache.release(row.prefix)
        rows.clear()

    def _wait(self) -> None:
        if self._stack.device.type == "cuda":
            torch.cuda.synchronize(self._stack.device)


def _joint(doing: str, rows: Sequence[_Row]) -> str:
    """What several rows did, for the text of an error."""
    others = f"{len(rows) - 1} more questions and " if len(rows) > 1 else ""
    return f"{doing} {others}{rows[0].prompt.what}"


def _by_key(call: _Call, prompts: Sequence[Prompt]) -> list[_Waiting]:
    """The prompts of a call; those of one prefix together, in the order in which it came first."""
    groups: dict[str, list[_Waiting]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(prompt.key, []).append(_Waiting(call, index, prompt))
    return [entry for group in groups.values() for entry in group]

"""Takes requests, keeps as many rows at work as there is room for, and hands replies out.

Requests of one window are read one after another, so that the window's prefix is computed or
fetched once. A reply that is finished leaves at once, and the next request takes its row
(continuous batching, as in Orca, OSDI 2022). What a row computes does not depend on the rows beside
it, so a reply is the same in any company, up to rounding.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from hybrid.errors import OutOfMemoryError
from hybrid.fine.decoding.attention import causal_attention
from hybrid.fine.decoding.decoder_layers import TextStack
from hybrid.fine.decoding.grammar import GrammarTables
from hybrid.fine.decoding.prefix_cache import Prefix, PrefixCache
from hybrid.fine.decoding.rows import PlainSteps, RowBuffers, Steps, read_suffixes
from hybrid.fine.decoding.sampling import Choice
from hybrid.fine.qwen.writing import OnFinished, OnTokens, Reply
from hybrid.fine.turns import Turns
from hybrid.runtime import out_of_memory_as_error

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Request", "Runner", "read_prefix"]

_LOG = logging.getLogger(__name__)

SUFFIX_TOKENS_AT_ONCE = 8192
_REFILL_SHARE = 8
_STEPS_BETWEEN_LOOKS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One reply to be written.

    Attributes:
        key: names everything that the prefix follows from.
        prefix_tokens: its length.
        make_prefix: computes it; called only where it is not kept.
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
class _Row:
    place: int
    request: Request
    prefix: Prefix
    reused: bool
    ids: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"prefix": 0.0, "prefill": 0.0, "decode": 0.0})

    @property
    def tail(self) -> int:
        """Tokens of its tail with the one that is read next."""
        return len(self.request.suffix) + len(self.ids)


@dataclass(slots=True, eq=False)
class _Work:
    """The state of one run.

    Attributes:
        waiting: requests with their places.
        most_rows: how many may be at work.
        rows: those that are.
        filling: whether the last step took requests in, so that the next one tries to take in more.
        tried: how many rows were to be at work when memory was last asked for.
        news: of each row that the last step went on with: its place, its tokens, its reply if that is finished.
        replies: those that are finished, by place.
    """

    waiting: deque[tuple[int, Request]]
    most_rows: int
    rows: list[_Row] = field(default_factory=list)
    filling: bool = False
    tried: int = 0
    news: list[tuple[int, Sequence[int], Reply | None]] = field(default_factory=list)
    replies: dict[int, Reply] = field(default_factory=dict)

    def take_news(self) -> list[tuple[int, Sequence[int], Reply | None]]:
        """The news, each once."""
        news, self.news = self.news, []
        return news


class Runner:
    """Runs requests on one model; safe to call from several threads, which then take turns.

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
        self._turns = Turns()
        # Elsewhere than on a CPU, looking at the tokens makes the device wait for the host.
        self._count = 1 if stack.device.type == "cpu" else _STEPS_BETWEEN_LOOKS
        self._steps: Steps = PlainSteps(stack, self._buffers, choice)
        if graphs:
            from hybrid.fine.decoding.cuda_graphs import RecordedSteps

            self._steps = RecordedSteps(stack, self._buffers, choice, most=batch)

    def run(
        self,
        requests: Sequence[Request],
        *,
        on_tokens: OnTokens | None = None,
        on_finished: OnFinished | None = None,
    ) -> list[Reply]:
        """Write all replies, in the order of the requests; see :meth:`hybrid.fine.qwen.writing.Writer.write`.

        If memory runs out with several rows at work, fewer work at once from then on.

        Raises:
            InputError: a listener of a run that is under way calls this.
            OutOfMemoryError: not even one row fits.
            ModelError: the model's output is not finite.
        """
        work = _Work(deque(_by_key(requests)), most_rows=self._batch)
        with self._turns.take():
            try:
                while work.waiting or work.rows:
                    try:
                        with torch.inference_mode():
                            self._step(work)
                    except OutOfMemoryError as exc:
                        if not self._make_smaller(work):
                            raise
                        _LOG.warning("%s; going on with %d questions at once", exc, work.most_rows)
                    # Here, and not where it comes about: a lack of memory of a listener's is none of the rows', and
                    # what a listener makes (it may load a model) is not made for inference only.
                    for place, ids, reply in work.take_news():
                        if on_tokens is not None:
                            on_tokens(place, ids, reply is not None)
                        if on_finished is not None and reply is not None:
                            on_finished(place, reply)
            finally:
                self._let_go(work.rows)
                if self._stack.device.type == "cpu":
                    self._buffers.drop()
        return [work.replies[place] for place in range(len(requests))]

    def _step(self, work: _Work) -> None:
        """Take new requests in, if it is worth it and there is room, or else write a few tokens on."""
        free = work.most_rows - len(work.rows)
        # As many questions are read together as memory admits; that some wait for the next such pass is no reason to
        # decode without them.
        worth = work.filling or not work.rows or free * _REFILL_SHARE >= work.most_rows
        work.filling = bool(worth and free and work.waiting) and self._take_in(work, free)
        if work.rows and not work.filling:
            self._decode(work)

    def _take_in(self, work: _Work, free: int) -> bool:
        """Begin with as many of the waiting requests as there is room for; whether there was room for any."""
        new: list[_Row] = []
        tokens = 0
        try:
            while work.waiting and len(new) < free:
                place, request = work.waiting[0]
                tokens += len(request.suffix)
                nbytes = request.prefix_tokens * self._stack.bytes_per_token
                crowded = tokens > SUFFIX_TOKENS_AT_ONCE or not self.cache.has_room(request.key, nbytes)
                if crowded and (new or work.rows):
                    break
                new.append(self._begin(place, request, nbytes))
                work.waiting.popleft()
            first_tokens = self._read_suffixes(work, new) if new else []
        except BaseException:
            work.tried = len(work.rows) + len(new)
            work.waiting.extendleft([(row.place, row.request) for row in reversed(new)])
            self._let_go(new)
            raise
        work.rows += new
        self._note(work, first_tokens, first=len(work.rows) - len(new))
        return bool(new)

    def _begin(self, place: int, request: Request, nbytes: int) -> _Row:
        started = time.perf_counter()
        with out_of_memory_as_error(request.what):
            try:
                prefix, reused = self.cache.take(request.key, nbytes, request.make_prefix)
            except (torch.OutOfMemoryError, MemoryError):
                self.cache.drop_idle()
                prefix, reused = self.cache.take(request.key, nbytes, request.make_prefix)
            try:
                self._wait()
            except BaseException:  # an interrupt most likely comes here, where a GPU is waited for
                self.cache.release(prefix)
                raise
        row = _Row(place, request, prefix, reused)
        row.seconds["prefix"] = time.perf_counter() - started
        return row

    def _read_suffixes(self, work: _Work, new: list[_Row]) -> list[list[int]]:
        """Read the questions of new rows, and choose the first token of each."""
        started = time.perf_counter()
        first = len(work.rows)
        device = self._stack.device
        with out_of_memory_as_error(_joint("a question about", new)):
            longest = max(row.tail for row in [*work.rows, *new])
            self._buffers.reserve(first + len(new), longest + self._count)
            for number, row in enumerate(new, start=first):
                suffix = torch.tensor(row.request.suffix, device=device)
                prompt = torch.cat([row.prefix.token_ids, suffix])
                self._choice.open(number, prompt, limit=row.request.limit, tables=row.request.tables)
            tokens = read_suffixes(
                self._stack,
                self._buffers,
                self._choice,
                [row.prefix for row in new],
                [row.request.suffix for row in new],
                first_row=first,
            ).tolist()
        share = (time.perf_counter() - started) / len(new)
        for row in new:
            row.seconds["prefill"] += share
        return [[token] for token in tokens]

    def _decode(self, work: _Work) -> None:
        started = time.perf_counter()
        rows = work.rows
        longest = max(row.tail for row in rows)
        work.tried = len(rows)
        with out_of_memory_as_error(_joint("a reply about", rows)):
            steps = self._steps([row.prefix for row in rows], longest=longest, count=self._count)
            chosen: list[list[int]] = steps.tolist()
        share = (time.perf_counter() - started) / len(rows)
        for row in rows:
            row.seconds["decode"] += share
        self._note(work, chosen, first=0)

    def _note(self, work: _Work, chosen: list[list[int]], *, first: int) -> None:
        """Note the tokens of rows from ``first`` on, and let finished rows go."""
        finished: list[int] = []
        for number, tokens in enumerate(chosen, start=first):
            row = work.rows[number]
            done = False
            for token in tokens:
                row.ids.append(token)
                done = self._choice.closes(token) or len(row.ids) >= row.request.limit
                if done:
                    break
            reply = self._reply(number, row) if done else None
            if reply is not None:
                finished.append(number)
                work.replies[row.place] = reply
            work.news.append((row.place, row.ids, reply))
        for number in reversed(finished):
            self._remove(work, number)

    def _reply(self, number: int, row: _Row) -> Reply:
        return Reply(
            ids=tuple(row.ids),
            cut=not self._choice.closes(row.ids[-1]),
            forced=self._choice.forced(number),
            prompt_tokens=row.prefix.length + len(row.request.suffix),
            reused_tokens=row.prefix.length if row.reused else 0,
            seconds=dict(row.seconds),
        )

    def _remove(self, work: _Work, number: int) -> None:
        """Take a row out; the last row goes on in its place."""
        self.cache.release(work.rows[number].prefix)
        last = work.rows.pop()
        if number < len(work.rows):
            # The token that was chosen last is not in the tail yet.
            self._buffers.move(len(work.rows), number, last.tail)
            self._choice.move(len(work.rows), number)
            work.rows[number] = last

    def _make_smaller(self, work: _Work) -> bool:
        """After a lack of memory: begin again with fewer rows, if there were several."""
        if work.most_rows == 1 or len(work.rows) + len(work.waiting) == 1:
            return False
        work.waiting.extendleft([(row.place, row.request) for row in reversed(work.rows)])
        self._let_go(work.rows)
        work.most_rows = min(work.most_rows // 2, max(work.tried // 2, 1))
        self.cache.drop_idle()
        self._buffers.drop()
        return True

    def _let_go(self, rows: list[_Row]) -> None:
        for row in rows:
            self.cache.release(row.prefix)
        rows.clear()

    def _wait(self) -> None:
        if self._stack.device.type == "cuda":
            torch.cuda.synchronize(self._stack.device)


def _joint(doing: str, rows: Sequence[_Row]) -> str:
    """What several rows were at, for the text of an error."""
    others = f"{len(rows) - 1} more questions and " if len(rows) > 1 else ""
    return f"{doing} {others}{rows[0].request.what}"


def _by_key(requests: Sequence[Request]) -> list[tuple[int, Request]]:
    """Requests with their places; those of one prefix together, in the order in which it came first."""
    groups: dict[str, list[tuple[int, Request]]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(request.key, []).append((place, request))
    return [entry for group in groups.values() for entry in group]


def read_prefix(
    stack: TextStack, embeddings: Tensor, positions: Tensor, *, next_position: int, token_ids: Tensor
) -> Prefix:
    """The keys and values of a prefix; no row's question is needed for them.

    Args:
        stack: the model.
        embeddings: [P, hidden], in its dtype and on its device.
        positions: int64 [3, P] or [P].
        next_position: the position of the token that follows.
        token_ids: int64, on its device: each token of the prefix once.
    """
    shape = (stack.layers, stack.heads, len(embeddings), stack.width)
    keys = torch.empty(shape, dtype=stack.dtype, device=stack.device)
    values = torch.empty_like(keys)

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys[layer], values[layer] = key.transpose(0, 1), value.transpose(0, 1)
        if len(query) == 0:
            return query
        mixed = causal_attention(query.flatten(1, 2), keys[layer], values[layer], scale=stack.scale)
        return mixed.reshape(query.shape)

    stack.keys_and_values(embeddings, stack.rotation(positions), attend)
    return Prefix(keys=keys, values=values, next_position=next_position, token_ids=token_ids)

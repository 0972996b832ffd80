"""Which token comes next: the most likely one, of all or of those that the form of a reply admits.

Both ways hold the state of each row on the model's device and change it in place. So a step never waits for the
host, and can be replayed as a CUDA graph. Rows are numbered; row ``i`` of all buffers belongs together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from hybrid.errors import ModelError
from hybrid.fine.decoding.grammar import GrammarTables, ReplyGrammar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Choice", "FreeChoice", "GrammarChoice", "penalised"]

_LEAST_STATES = 4096
"""States of grammars that there is room for from the start; those for 256 frames are some hundreds."""


def penalised(logits: Tensor, seen: Tensor, *, penalty: float) -> Tensor:
    """Logits after the repetition penalty (CTRL, arXiv 1909.05858, section 4.1), as transformers applies it.

    Args:
        logits: float32 [N, tokens].
        seen: bool [N, tokens]: those that occurred in the prompt or in the reply so far.
        penalty: positive logits of those are divided by it, negative ones multiplied.
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


class Choice(ABC):
    """Chooses tokens for numbered rows.

    Args:
        head: [columns, hidden]: weight of the output layer, one row per token that can be chosen.
        rows: how many rows there can be.
        end_ids: tokens that end a reply.
        penalty: repetition penalty; 1.0 for none.
    """

    def __init__(self, head: Tensor, *, rows: int, end_ids: frozenset[int], penalty: float) -> None:
        self._head, self._end_ids, self._penalty = head, end_ids, penalty
        columns = len(head) if penalty != 1.0 else 0
        self._seen = torch.zeros(rows, columns, dtype=torch.bool, device=head.device)

    @abstractmethod
    def open(self, row: int, prompt_ids: Tensor, *, limit: int, tables: GrammarTables | None) -> None:
        """Begin a reply in a row.

        Args:
            row: its number.
            prompt_ids: int64: every token of the prompt at least once.
            limit: the longest reply, in tokens.
            tables: the form of the reply, where there is one.
        """

    @abstractmethod
    def _choose(self, logits: Tensor, rows: slice) -> Tensor:
        """The columns that are chosen, int64 [N], for the logits [N, columns] of consecutive rows."""

    def pick(self, hidden: Tensor, rows: slice, *, check: bool = False) -> Tensor:
        """The next token of consecutive rows, int64 [N], for their states [N, hidden] after the last norm.

        Of equally likely tokens it is the first.

        Raises:
            ModelError: ``check`` is set and the model's output is not finite.
        """
        logits = functional.linear(hidden, self._head).float()
        if check and not bool(torch.isfinite(logits).all()):
            raise ModelError("the model's output is not finite: its weights are damaged, or need bfloat16 or float32")
        if self._penalty == 1.0:
            return self._choose(logits, rows)
        seen = self._seen[rows]
        columns = self._choose(penalised(logits, seen, penalty=self._penalty), rows)
        seen.scatter_(1, columns[:, None], True)
        return columns

    def move(self, source: int, target: int) -> None:
        """Row ``source`` goes on as row ``target``."""
        for buffer in self.state():
            buffer[target] = buffer[source]

    def closes(self, token: int) -> bool:
        """Whether a reply ends with this token."""
        return token in self._end_ids

    def state(self) -> tuple[Tensor, ...]:
        """What :meth:`pick` changes in place."""
        return (self._seen,)

    def constants(self) -> tuple[Tensor, ...]:
        """What else :meth:`pick` reads; where one moves, what was recorded with it is void."""
        return (self._head,)

    def forced(self, row: int) -> bool:
        """Whether the reply would have been longer without its limit; a free reply is cut, never closed."""
        return False


class FreeChoice(Choice):
    """The most likely of all tokens, as ``generate(do_sample=False)`` takes it."""

    def open(self, row: int, prompt_ids: Tensor, *, limit: int, tables: GrammarTables | None) -> None:
        """See :class:`Choice`; the caller keeps the limit."""
        if self._penalty != 1.0:
            self._seen[row] = False
            self._seen[row, prompt_ids] = True

    def _choose(self, logits: Tensor, rows: slice) -> Tensor:
        return logits.argmax(-1)


class GrammarChoice(Choice):
    """The most likely of the tokens that keep a reply in its form, and let it end within its limit.

    Args:
        head: [vocabulary, hidden]: weight of the output layer; only the rows of admissible tokens are copied.
        grammar: the form.
        rows: how many rows there can be.
        penalty: repetition penalty; 1.0 for none.
    """

    def __init__(self, head: Tensor, grammar: ReplyGrammar, *, rows: int, penalty: float) -> None:
        device = head.device
        self._ids = torch.tensor(grammar.token_ids, device=device)
        super().__init__(head[self._ids].contiguous(), rows=rows, end_ids=grammar.closing_ids, penalty=penalty)
        self._following = torch.empty(0, len(self._ids), dtype=torch.int32, device=device)
        self._distance = torch.empty(0, dtype=torch.int32, device=device)
        self._states = 0
        self._offsets: dict[int, tuple[GrammarTables, int]] = {}
        self._state, self._remaining = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in range(2))
        self._forced = torch.zeros(rows, dtype=torch.bool, device=device)

    def open(self, row: int, prompt_ids: Tensor, *, limit: int, tables: GrammarTables | None) -> None:
        """See :class:`Choice`."""
        assert tables is not None, "a reply in a form needs the form's tables"
        self._state[row] = self._offset(tables) + tables.start
        self._remaining[row] = limit
        self._forced[row] = False
        if self._penalty != 1.0:
            self._seen[row] = torch.isin(self._ids, prompt_ids)

    def pick(self, hidden: Tensor, rows: slice, *, check: bool = False) -> Tensor:
        """See :class:`Choice`."""
        return self._ids[super().pick(hidden, rows, check=check)]

    def _choose(self, logits: Tensor, rows: slice) -> Tensor:
        state, remaining = self._state[rows], self._remaining[rows]
        following = self._following[state]
        in_form = following >= 0
        # Index -1 reads some distance, which does not matter.
        in_time = in_form & (self._distance[following.long()] < remaining.clamp(min=1)[:, None])
        columns = logits.masked_fill(~in_time, float("-inf")).argmax(-1)
        self._forced[rows] |= columns != logits.masked_fill(~in_form, float("-inf")).argmax(-1)
        state.copy_(following.gather(1, columns[:, None])[:, 0])
        remaining.sub_(1)
        return columns

    def state(self) -> tuple[Tensor, ...]:
        """See :class:`Choice`."""
        return self._seen, self._state, self._remaining, self._forced

    def constants(self) -> tuple[Tensor, ...]:
        """See :class:`Choice`."""
        return self._head, self._ids, self._following, self._distance

    def forced(self, row: int) -> bool:
        """See :class:`Choice`."""
        return bool(self._forced[row])

    def _offset(self, tables: GrammarTables) -> int:
        """Where the states of these tables lie among those on the device; brought there if need be."""
        known = self._offsets.get(id(tables))
        if known is not None:
            return known[1]
        offset, end = self._states, self._states + len(tables.distance)
        device = self._ids.device
        if end > len(self._distance):
            # Doubled at least: where these tables move, all that was recorded with them is void.
            room = max(2 * end, _LEAST_STATES)
            self._following, old = self._following.new_full((room, len(self._ids)), -1), self._following
            self._distance, old_distance = self._distance.new_zeros(room), self._distance
            self._following[:offset], self._distance[:offset] = old[:offset], old_distance[:offset]
        following = torch.from_numpy(tables.following).to(device)
        self._following[offset:end] = torch.where(following >= 0, following + offset, following)
        self._distance[offset:end] = torch.from_numpy(tables.distance).to(device)
        self._states = end
        self._offsets[id(tables)] = (tables, offset)  # referenced, so that its id is not reused
        return offset

"""Keys and values of whole windows, cached between questions.

The keys and values of a window's frames do not depend on the question behind them. They are computed once and cached
unchanged. When memory is needed, the least recently used window is evicted first: from the device to host memory, if
there is a budget for it, and then for good. A prefix that rows are reading is held and never evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CacheCounts", "Prefix", "PrefixCache"]


@dataclass(slots=True, eq=False)
class Prefix:
    """The keys and values of a prompt up to the end of its last visual item.

    Attributes:
        keys, values: [layers, K, P, D]. Nothing is ever written behind them, so going back to the
            end of the prefix, for the next question, is to do nothing.
        next_position: the position of the token that follows.
        token_ids: int64: each token of the prefix once, for the repetition penalty.
        holders: how many rows read it now.
    """

    keys: Tensor
    values: Tensor
    next_position: int
    token_ids: Tensor
    holders: int = field(default=0)

    @property
    def length(self) -> int:
        """Tokens."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values."""
        return int(self.keys.nbytes + self.values.nbytes)


@dataclass(slots=True)
class CacheCounts:
    """What a cache did since it was made."""

    hits: int = 0
    host_hits: int = 0
    misses: int = 0
    to_host: int = 0
    dropped: int = 0


class PrefixCache:
    """Prefixes by key, least recently used first out, in two tiers with a budget each.

    Args:
        device_bytes: memory for prefixes on the model's device. One that is held may exceed it, if
            nothing else is held: a window that is asked about has to be somewhere.
        host_bytes: memory for those that had to leave.
    """

    def __init__(self, *, device_bytes: int, host_bytes: int) -> None:
        self.device_bytes = device_bytes
        self.host_bytes = host_bytes
        self.counts = CacheCounts()
        self._near: OrderedDict[str, Prefix] = OrderedDict()
        self._far: OrderedDict[str, Prefix] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._near or key in self._far

    @property
    def used_bytes(self) -> tuple[int, int]:
        """Memory in use on the device and on the host."""
        return _total(self._near), _total(self._far)

    def has_room(self, key: str, nbytes: int) -> bool:
        """Whether a prefix of that size can be taken now without going over the budget."""
        held = sum(prefix.nbytes for prefix in self._near.values() if prefix.holders)
        if key in self._near and self._near[key].holders:
            return True
        return held == 0 or held + nbytes <= self.device_bytes

    def take(self, key: str, nbytes: int, make: Callable[[], Prefix]) -> tuple[Prefix, bool]:
        """The prefix of a key, held for the caller, and whether it was there already.

        Args:
            key: identifies everything that decides the prefix.
            nbytes: its size; as much is freed before it is made.
            make: computes it.
        """
        prefix = self._near.get(key)
        reused = True
        if prefix is not None:
            self.counts.hits += 1
            self._near.move_to_end(key)
        else:
            far = self._far.pop(key, None)  # before room is made, which may push it out
            self._make_room(nbytes)
            prefix = make() if far is None else _moved(far, like=far.token_ids)
            reused = far is not None
            self.counts.misses += not reused
            self.counts.host_hits += reused
            self._near[key] = prefix
        prefix.holders += 1
        return prefix, reused

    def release(self, prefix: Prefix) -> None:
        """Return what :meth:`take` gave; over the budget, idle prefixes are evicted."""
        prefix.holders -= 1
        self._make_room(0)

    def drop_idle(self) -> None:
        """Drop all prefixes on the device that no row reads."""
        for key in [key for key, prefix in self._near.items() if not prefix.holders]:
            del self._near[key]
            self.counts.dropped += 1

    def clear(self) -> None:
        """Drop all prefixes that no row reads, in both tiers."""
        self.drop_idle()
        self._far.clear()

    def _make_room(self, nbytes: int) -> None:
        """Evict the oldest prefixes until ``nbytes`` more fit, or all that remain are held."""
        idle = [key for key, prefix in self._near.items() if not prefix.holders]
        used = _total(self._near)
        for key in idle:
            if used + nbytes <= self.device_bytes:
                return
            prefix = self._near.pop(key)
            used -= prefix.nbytes
            self._send_away(key, prefix)

    def _send_away(self, key: str, prefix: Prefix) -> None:
        if prefix.nbytes > self.host_bytes:
            self.counts.dropped += 1
            return
        while _total(self._far) + prefix.nbytes > self.host_bytes:
            self._far.popitem(last=False)
            self.counts.dropped += 1
        try:
            self._far[key] = _on_host(prefix)
        except (RuntimeError, MemoryError):  # page-locked memory ends before memory does
            self.counts.dropped += 1
            return
        self.counts.to_host += 1


def _total(tier: OrderedDict[str, Prefix]) -> int:
    return sum(prefix.nbytes for prefix in tier.values())


def _on_host(prefix: Prefix) -> Prefix:
    """A copy in host memory; page-locked where it comes from a CUDA device, so that it returns fast."""
    import torch

    def copy(tensor: Tensor) -> Tensor:
        pinned = tensor.device.type == "cuda"
        there = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
        return there.copy_(tensor)

    return Prefix(copy(prefix.keys), copy(prefix.values), prefix.next_position, prefix.token_ids)


def _moved(prefix: Prefix, *, like: Tensor) -> Prefix:
    """A host copy back on the device of ``like`` (the small part, which never left)."""
    keys, values = (part.to(like.device, non_blocking=True) for part in (prefix.keys, prefix.values))
    return Prefix(keys, values, prefix.next_position, prefix.token_ids)

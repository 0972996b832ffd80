"""Time stamps that cannot be true: single damaged ones, lengths that are stale, clocks that start over.

Pure functions on arrays, like :mod:`hybrid.frames.packets.plan`. Where two statements of a file contradict
each other, that of the many packets is believed, not that of one header or of a handful of packets.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid.frames.packets.plan import NO_PTS
from hybrid.values import FloatArray, IntArray

__all__ = ["OUTLIER_SECONDS", "Jumps", "clock_jumps", "outliers", "put_behind", "usual_step"]

BoolArray = npt.NDArray[np.bool_]

OUTLIER_SECONDS = 60.0
"""A time stamp this far outside of what the container says is damaged, or the container is wrong."""
GOES_ON_SECONDS = 10.0
"""Time stamps outside of that which follow the others without a gap of this length are not damaged."""
FEW_PACKETS = 4
"""So many packets may be damaged however short the video is; of a long one, one in a hundred."""
JUMP_SECONDS = 1.0
JUMP_STEPS = 16
"""A decoding clock that goes back by more than this (the smaller one) has started over."""
CHUNK = 4096


class Jumps(NamedTuple):
    """Where a clock starts over.

    Attributes:
        starts: positions in decode order of the first packets after a jump back.
        wild: bool [N], a few packets that stand out of a clock that otherwise goes on.
    """

    starts: tuple[int, ...]
    wild: BoolArray


def usual_step(times: IntArray) -> int:
    """The median distance of times that follow each other, in ticks; 1 if there are no two of them."""
    steps = np.diff(np.sort(times))
    steps = steps[steps > 0]
    return max(1, int(np.median(steps))) if len(steps) else 1


def outliers(seconds: FloatArray, known: BoolArray, stated: float | None) -> tuple[BoolArray, bool]:
    """Packets whose time is damaged, and whether the stated length of the video can be believed.

    Args:
        seconds: float64 [N], times on the timeline.
        known: bool [N], which packets have a time.
        stated: where the video ends as the container has it; None if it does not say.

    Returns:
        bool [N], at most a few packets that lie far outside of the video; and False if so many
        packets, or such that follow the others closely, lie behind the stated end that it is the
        statement that is wrong.
    """
    wild = known & (seconds < -OUTLIER_SECONDS)
    if not _are_few(wild, known):
        wild = np.zeros(len(known), dtype=bool)
    if stated is None:
        return wild, True
    late = known & (seconds > stated + OUTLIER_SECONDS)
    if not late.any():
        return wild, True
    others = seconds[known & ~late]
    if not _are_few(late, known) or seconds[late].min() - others.max() < GOES_ON_SECONDS:
        return wild, False
    return wild | late, True


def _are_few(some: BoolArray, known: BoolArray) -> bool:
    of = int(known.sum())
    return int(some.sum()) <= min(of - 1, max(FEW_PACKETS, of // 100))


def clock_jumps(dts: IntArray, usable: BoolArray, ticks_per_second: float, *, longest_gap: int | None = None) -> Jumps:
    """Find where the clock of decoding goes back for good (recordings put together, an encoder restarted).

    That clock, unlike the one of presentation, only goes forward in a healthy stream. A few packets
    that lie before or behind a clock that goes on are no jump but damaged.

    Args:
        dts: int64 [N], times of decoding, in decode order.
        usable: bool [N], packets to look at; those without a time are left out as well.
        ticks_per_second: of that clock.
        longest_gap: a move ahead by more than so many ticks is a jump back as well (a counter of
            few bits, which FFmpeg takes for run over when it goes back); None if there is no such.
    """
    indexes = np.flatnonzero(usable & (dts != NO_PTS))
    wild = np.zeros(len(dts), dtype=bool)
    if len(indexes) < 2:
        return Jumps((), wild)
    clock = dts[indexes]
    most = int(np.iinfo(np.int64).max) if longest_gap is None else longest_gap
    moves = np.diff(clock)
    if moves.min() >= 0 and moves.max() <= most:
        return Jumps((), wild)
    step = int(np.median(np.abs(moves[moves != 0])))
    limit = max(1, min(int(JUMP_SECONDS * ticks_per_second), JUMP_STEPS * step))
    starts, apart = _follow(clock, limit, most)
    wild[indexes[apart]] = True
    return Jumps(tuple(int(indexes[i]) for i in starts), wild)


def _follow(clock: IntArray, limit: int, most: int) -> tuple[list[int], BoolArray]:
    """Where a clock starts over, and which times stand apart from it. Works in chunks: linear in time."""
    starts: list[int] = []
    apart = np.zeros(len(clock), dtype=bool)
    at = 0
    high = int(clock[0])
    while at < len(clock):
        part = clock[at : at + CHUNK]
        before = np.maximum.accumulate(np.append(high, part))
        moves = part - before[:-1]
        off = np.flatnonzero((moves < -limit) | (moves > most))
        if not len(off):
            high = int(before[-1])
            at += len(part)
            continue
        high = int(before[off[0]])
        at += int(off[0])
        now = int(clock[at])
        if now > high:
            starts.append(at)
            high = now
            continue
        begin = max(starts[-1] if starts else 0, at - CHUNK)
        fits = ~apart[begin:at]
        above = fits & (clock[begin:at] > now + limit // 2)
        returns = np.flatnonzero(clock[at : at + FEW_PACKETS + 1] > high)
        if int(above.sum()) <= FEW_PACKETS:
            apart[begin:at] |= above
            rest = clock[begin:at][fits & ~above]
            high = int(rest.max()) if len(rest) else now
        elif len(returns):
            apart[at : at + int(returns[0])] = True
            at += int(returns[0])
        else:
            starts.append(at)
            high = now
    return starts, apart


def put_behind(times: IntArray, usable: BoolArray, starts: tuple[int, ...]) -> IntArray:
    """Move every part of a stream whose clock starts over behind the part before it.

    Args:
        times: int64 [N], times of presentation in decode order; :data:`NO_PTS` stays as it is.
        usable: bool [N], packets that count.
        starts: where the second part and those after it begin.

    Returns:
        int64 [N]. The first frame of a part comes the usual distance after the last one before it.
    """
    usable = usable & (times != NO_PTS)
    moved: IntArray = times.copy()
    bounds = [0, *starts, len(times)]
    high: int | None = None
    step = 1
    for begin, end in itertools.pairwise(bounds):
        part = times[begin:end][usable[begin:end]]
        if not len(part):
            continue
        offset = 0 if high is None else high + step - int(part.min())
        known = times[begin:end] != NO_PTS
        moved[begin:end][known] += offset
        high = int(part.max()) + offset
        step = usual_step(part)
    return moved

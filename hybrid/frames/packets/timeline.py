"""When frames are shown, as far as packets tell, and which of their times cannot be true.

Single damaged time stamps, lengths that are stale, clocks that start over: where two statements of a file contradict
each other, that of the many packets is believed, not that of one header or of a handful of packets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from hybrid.formatting import plural
from hybrid.frames.container.open import Header
from hybrid.frames.packets.plan import NO_PTS, Clock
from hybrid.values import FloatArray, IntArray

__all__ = ["CUT_SECONDS", "StreamTimes", "in_order_of_decoding", "last_end", "stream_times", "usual_step"]

BoolArray = npt.NDArray[np.bool_]

OUTLIER_SECONDS = 60.0
"""A time stamp this far outside the stated length is damaged, or the stated length is wrong."""
GOES_ON_SECONDS = 10.0
"""Time stamps outside of that which follow the others without a gap of this length are not damaged."""
FEW_PACKETS = 4
"""So many packets may be damaged however short the video is; of a long one, one in a hundred."""
JUMP_SECONDS = 1.0
JUMP_STEPS = 16
"""A decoding clock that goes back by more than this (the smaller one) has started over."""
CHUNK = 4096
MPEG_HALF_TURN = 2**32
"""Half of what the 33 bits of MPEG's clock can count (13 hours). FFmpeg takes a time stamp that goes
back by more than a minute for a clock that has run over, and adds the whole."""
CUT_SECONDS = 0.5
"""Packets that end this much before the length that the container states mean a cut file."""
LONG_FRAME_STEPS = 100
"""A last frame that claims to be shown longer than so many usual ones is checked against the container's length."""
LONGEST_HOLD_SECONDS = 60.0
"""A last frame that claims to be shown longer than this, and than all that comes before it, needs a witness."""


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


@dataclass(frozen=True, slots=True, eq=False)
class StreamTimes:
    """When the frames of a stream's packets are shown.

    Attributes:
        clock: the timeline.
        times: int64 [N], of every packet; :data:`NO_PTS` where it is not known.
        wild: bool [N], packets whose time cannot be believed.
        stated: where the video ends as the container states it; None if it does not, or cannot be believed.
        jumps: positions of the packets where the clock starts over.
        notes: what the caller should know.
    """

    clock: Clock
    times: IntArray
    wild: BoolArray
    stated: float | None
    jumps: tuple[int, ...]
    notes: list[str]


def stream_times(
    container: InputContainer,
    stream: VideoStream,
    header: Header,
    pts: IntArray,
    stamps: IntArray,
    shown: BoolArray,
    *,
    by_count: bool,
) -> StreamTimes:
    """Judge the times of the shown packets.

    Args:
        container, stream: that were read.
        header: what both stated when they were opened.
        pts: int64 [N], times of presentation, in decode order.
        stamps: int64 [N], times of decoding.
        shown: bool [N], packets whose pictures are shown.
        by_count: the packets do not tell: the n-th frame that comes out has the n-th smallest time.
    """
    time_base = stream.time_base or Fraction(1, 1_000_000)
    times = _counted_times(stamps, stream, time_base) if by_count else pts
    clock = Clock(time_base, _zero(header, times, time_base))
    gap = MPEG_HALF_TURN if container.format.name.startswith("mpeg") else None
    find_jumps = partial(clock_jumps, stamps, ticks_per_second=float(1 / time_base), longest_gap=gap)
    found = straighten(times, shown, clock, header.end_seconds(), None if by_count else find_jumps)
    if found.jumps:
        return replace(found, clock=Clock(time_base, _zero(header, found.times, time_base)))
    return found


def straighten(
    times: IntArray,
    shown: BoolArray,
    clock: Clock,
    stated: float | None,
    find_jumps: Callable[[BoolArray], Jumps] | None,
) -> StreamTimes:
    """Judge the times of the shown packets; ``find_jumps`` tells where the clock starts over among usable ones."""
    notes = []
    known = shown & (times != NO_PTS)  # What an edit list cuts off may well lie far before the beginning.
    wild, believed = outliers(_seconds(clock, times), known, stated)
    if not believed:
        notes.append(f"the container states {stated:.2f} s, but its packets go on after that; they are believed")
        stated = None
    starts: tuple[int, ...] = ()
    if find_jumps is not None:
        starts, apart = find_jumps(known & ~wild)
        wild |= apart
    if starts:
        stated = None  # It is one clock's; there are several.
        times = put_behind(times, shown & ~wild, starts)
        at = times[: starts[0]][(known & ~wild)[: starts[0]]]
        where = f"at {float(clock.seconds(int(at.max()))):.2f} s" if len(at) else "at the start"
        often = f" and {plural(len(starts) - 1, 'time')} more" if len(starts) > 1 else ""
        notes.append(f"the clock jumps back {where}{often}; what follows is put behind it")
    # Whatever still lies before the beginning can be no sample, be it much or little.
    early = known & (_seconds(clock, times) < -OUTLIER_SECONDS)
    if not early[known].all():
        wild |= early
    if wild.any():
        notes.append(f"{plural(int(wild.sum()), 'packet')} with a time stamp outside of the video left out")
    return StreamTimes(clock, times, wild, stated, starts, notes)


def _seconds(clock: Clock, times: IntArray) -> FloatArray:
    return clock.seconds(np.where(times != NO_PTS, times, 0))


def in_order_of_decoding(container: InputContainer, stream: VideoStream, pts: IntArray) -> bool:
    """Whether the time stamps count packets in order of decoding though the frames are shown in another.

    AVI stores no time stamps. FFmpeg counts packets, which is wrong where the codec reorders.
    """
    context = stream.codec_context
    assert context is not None
    return container.format.name == "avi" and context.reorder_depth > 0 and bool((np.diff(pts) > 0).all())


def _counted_times(stamps: IntArray, stream: VideoStream, time_base: Fraction) -> IntArray:
    """One time per frame for a stream whose packets do not tell them: of all packets, or by the frame rate."""
    if (stamps != NO_PTS).all() and len(np.unique(stamps)) == len(stamps):
        return np.sort(stamps)
    rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
    return np.fromiter((int(n / rate / time_base) for n in range(len(stamps))), dtype=np.int64, count=len(stamps))


def _zero(header: Header, times: IntArray, time_base: Fraction) -> Fraction:
    """When the timeline begins, on the clock of the stream.

    That is the container's start. FFmpeg gives it in microseconds; where it is the start of the
    video stream itself, the stream's exact value is taken.
    """
    known = times[times != NO_PTS]
    first = Fraction(int(known.min())) * time_base if len(known) else Fraction(0)
    if header.start is None:
        return first
    for exact in (first, header.stream_start or Fraction(0)):
        if abs(exact - header.start) <= Fraction(1, 1_000_000):
            return exact
    return header.start


def last_end(
    found: StreamTimes,
    durations: IntArray,
    valid: BoolArray,
    stream: VideoStream,
    others_end: Callable[[], float | None],
) -> tuple[float, list[str], float | None]:
    """When the last frame ends, notes on that, and the stated end if it can still be believed.

    It ends by its packet's duration, else by the usual distance.

    A duration far above the usual is believed only where the container's length does not speak against it. One
    longer than a minute and than all that comes before is believed only where another stream lasts as long.

    Args:
        found: times of all packets.
        durations: int64 [N], in ticks.
        valid: bool [N], packets that are shown at a known time.
        stream: that was read.
        others_end: when the other streams of the file end; None if that is not known.
    """
    times, clock, stated = found.times, found.clock, found.stated
    if not valid.any():
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        return float(len(times) / rate), [], stated
    latest = int(times[valid].max())
    length = int(durations[np.flatnonzero(valid & (times == latest))[-1]])
    step = usual_step(times[valid])
    usual, claimed = (float(clock.seconds(latest + ticks)) for ticks in (step, max(length, 0)))
    if length <= 0:
        return usual, [], stated
    if length <= LONG_FRAME_STEPS * step or not (times[valid] < latest).any():
        return claimed, [], stated
    if stated is not None and stated < claimed - CUT_SECONDS:
        return max(stated, usual), [], stated
    note = f"the last frame is said to be shown for {claimed - usual:.0f} s more than the others"
    if claimed - usual > max(LONGEST_HOLD_SECONDS, usual):
        lasts = others_end()
        if lasts is None or lasts < claimed - CUT_SECONDS:
            note += f"; nothing else bears that out; the video is taken to end at {usual:.2f} s"
            return usual, [note], None
    return claimed, [note], stated

"""Reading stretches of a scanned file's packets again.

Every packet is compared with what the scan recorded, so that a seek that lands elsewhere is noticed
instead of believed: containers differ in how well they seek (MPEG-TS badly).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import av.error
import numpy as np

from hybrid.errors import FrameDecodeError
from hybrid.frames.container.open import VideoPacket, open_stream, packets_of
from hybrid.frames.packets.plan import NO_PTS
from hybrid.frames.packets.scan import Movie

__all__ = ["PacketReader"]

FAILED_SEEKS = 3
"""After so many jumps in a row that failed, the container is taken for one that cannot seek."""


class PacketReader:
    """Reads packets of a scanned file again, any stretch of them. Not for use by several threads.

    Attributes:
        context: a decoder of its own, with one thread.
    """

    def __init__(self, movie: Movie) -> None:
        self._movie = movie
        self._failed = 0
        self._open()

    def _open(self) -> None:
        self._container, self._stream = open_stream(self._movie.path, index=self._movie.stream)
        context = self._stream.codec_context
        assert context is not None
        self.context = context
        self._packets = packets_of(self._container, self._stream, [])
        self._next = 0

    @property
    def next_packet(self) -> int:
        """The number of the packet that comes next."""
        return self._next

    def packets(self, start: int, last: int) -> Iterator[tuple[int, VideoPacket]]:
        """The packets ``start`` .. ``last`` (inclusive) with their positions in decode order.

        Raises:
            FrameDecodeError: the file is not the one that was scanned any more.
            VideoOpenError: it cannot be opened again, or its stream is gone.
        """
        waiting = self._go_to(start)
        while self._next <= last:
            packet = waiting or next(self._packets, None)
            waiting = None
            if packet is None or not self._is(packet, self._next):
                raise FrameDecodeError(f"{self._movie.path} changed while it was read, at packet {self._next}")
            index = self._next
            self._next += 1
            if index >= start:
                yield index, packet

    def _is(self, packet: VideoPacket, index: int) -> bool:
        movie = self._movie
        pts = NO_PTS if packet.pts is None else packet.pts
        position = -1 if packet.pos is None else packet.pos
        return bool(
            movie.packets.pts[index] == pts and movie.sizes[index] == packet.size and movie.positions[index] == position
        )

    def _go_to(self, start: int) -> VideoPacket | None:
        """Stand before packet ``start`` or earlier; a packet that was read to find out is returned."""
        if 0 <= start - self._next <= self._movie.near:
            return None
        time = int(self._movie.packets.pts[start])
        if self._failed < FAILED_SEEKS and start > 0 and time != NO_PTS:
            second = int(1 / self._movie.clock.time_base) or 1
            for target in (time, time - second):
                packet = self._seek(target, start)
                if packet is not None:
                    self._failed = 0
                    return packet
            # Where it stands now is not known.
            self._failed += 1
            self._restart()
        elif start < self._next:
            self._restart()
        return None

    def _seek(self, target: int, start: int) -> VideoPacket | None:
        """Seek, and find out where that is. None if not surely at ``start`` or before it."""
        try:
            self._container.seek(target, stream=self._stream)
        except av.error.FFmpegError:
            return None
        self._packets = packets_of(self._container, self._stream, [])
        packet = next(self._packets, None)
        if packet is None or packet.pts is None:
            return None
        matches = np.flatnonzero((self._movie.packets.pts == packet.pts) & (self._movie.sizes == packet.size))
        if len(matches) != 1 or matches[0] > start or not self._is(packet, int(matches[0])):
            return None
        self._next = int(matches[0])
        return packet

    def _restart(self) -> None:
        self._container.close()
        self._open()

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self._container.close()

    def __enter__(self) -> PacketReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

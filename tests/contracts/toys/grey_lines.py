"""A decoder of text files: one grey value a line, each shown for a second."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from hybrid.frames.interface import Decoder, ReadReport, Sample
from hybrid.values import VideoInfo


class GreyLines(Decoder):
    """See the module's text."""

    name = "grey_lines"

    def _open(self) -> VideoInfo:
        self._greys = [int(line) for line in Path(self._path).read_text().split()]
        return self._info("file", seconds=float(len(self._greys)), width=64, height=48, codec="grey_lines")

    def _samples(self, ordinals: list[int] | None) -> Generator[Sample, None, ReadReport]:
        length = len(self._greys)
        for ordinal in range(int(length * self.sampling.rate)) if ordinals is None else ordinals:
            second = int(ordinal / self.sampling.rate)
            if second < length:
                yield Sample(ordinal, float(second), second, np.full((48, 64, 3), self._greys[second], dtype=np.uint8))
        return ReadReport(duration_seconds=float(length), frames_decoded=length)


DECODER = GreyLines

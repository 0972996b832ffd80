"""hypothesis strategies for the shared values."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from hybrid.answers import Span
from hybrid.values import MissingFrame, Sampling, Timeline

seconds = st.floats(min_value=0, max_value=10_000, allow_nan=False, allow_infinity=False)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    start, end = sorted((draw(seconds), draw(seconds)))
    return Span(start_seconds=start, end_seconds=end, score=draw(st.integers(1, 5)))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Timelines as the exact policy makes them: missing samples, held frames, any rate."""
    rate = draw(st.sampled_from([0.5, 1.0, 2.0, 29.97]))
    grid = draw(st.integers(1, 40))
    missing = draw(st.sets(st.integers(0, grid - 1), max_size=grid - 1))
    ordinals = [k for k in range(grid) if k not in missing]
    pts: list[float] = []
    for ordinal in ordinals:
        held = bool(pts) and draw(st.booleans())
        shown = ordinal / rate - draw(st.floats(0, 0.99)) / rate
        pts.append(pts[-1] if held else max(0.0, shown, *pts[-1:]))
    return Timeline(
        ordinals=np.array(ordinals, dtype=np.int64),
        pts_seconds=np.array(pts, dtype=np.float64),
        frame_numbers=np.arange(len(ordinals), dtype=np.int64),
        sampling=Sampling(rate=rate),
        duration_seconds=max(grid / rate, pts[-1]),
        missing=tuple(MissingFrame(k, "damaged") for k in sorted(missing)),
    )

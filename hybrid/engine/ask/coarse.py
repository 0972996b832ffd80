"""The coarse stage: the frames that are most similar to a question, and the windows that GenS reads of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from hybrid.answers import Stage
from hybrid.clip.interface import FrameEncoder
from hybrid.engine.ask.context import AskContext
from hybrid.fine.windows import consecutive_windows
from hybrid.retrieve.windows import best_segments, cut_segments, window_of_hits, window_with_context
from hybrid.values import Float32Array, Hits, Window

__all__ = ["choose_windows", "search_video"]


def search_video(context: AskContext, load: Callable[[], FrameEncoder]) -> Hits:
    """The frames of the video that are most similar to the question, best first, and the record.

    Raises:
        ModelError: the encoder cannot be loaded or runs out of memory.
        IndexDamagedError: the index cannot be read.
    """
    asked = time.perf_counter()
    encoder = load()
    started = time.perf_counter()
    text = encoder.encode_text(context.question)
    encoded = time.perf_counter()
    options = context.options
    in_segments = options.fine and options.window_mode == "segments"
    # A segment is judged by all its frames, what lies around a frame may be any, and a selector chooses from all.
    every = (options.fine and options.window_mode != "scattered") or options.select is not None
    top = len(context.video.timeline) if every else max(options.window, options.frames)
    hits = _search_distinct(context, text.vector, top)
    ended = time.perf_counter()
    passed_on = options.window * (options.segments if in_segments else 1)
    context.record(
        Stage(
            name="coarse",
            ran=True,
            seconds=ended - started,
            model=encoder.name,
            device=encoder.device,
            candidates_in=len(context.video.timeline),
            candidates_out=min(len(hits), passed_on),
            notes=(text.note,) if text.note else (),
            details={
                "load_seconds": started - asked,
                "encode_seconds": encoded - started,
                "search_seconds": ended - encoded,
                "window_mode": options.window_mode,
                "identity": dict(encoder.identity),
            },
        )
    )
    return hits


def _search_distinct(context: AskContext, query: Float32Array, top: int) -> Hits:
    """The best frames, each once: one that is held for a minute must not fill the window with itself."""
    distinct = context.video.timeline.distinct_rows()
    if len(distinct) == len(context.video.timeline):
        return context.video.archive.search(context.video.manifest, query, top)
    hits = context.video.archive.search(context.video.manifest, query, len(context.video.timeline))
    first = np.isin(hits.rows, distinct)
    return Hits(rows=hits.rows[first][:top], similarities=hits.similarities[first][:top])


def choose_windows(context: AskContext, hits: Hits | None) -> list[Window]:
    """The frames that GenS reads together, for one question.

    Args:
        context: the question.
        hits: of the coarse stage; None if it is left out.
    """
    options = context.options
    if hits is None:
        return consecutive_windows(context.video.timeline.distinct_rows(), options.window)
    if options.window_mode == "scattered":
        return [window_of_hits(hits, options.window)]
    if options.window_mode == "context":
        return [_window_with_context(context, hits)]
    segments = cut_segments(context.video.timeline.distinct_rows(), options.window)
    return best_segments(segments, hits, options.segments)


def _window_with_context(context: AskContext, hits: Hits) -> Window:
    rows = context.video.timeline.distinct_rows()
    reach = context.options.context_seconds
    if reach > 0:
        # Frames lie a little beside the grid (29.97 a second): the last one within reach must not fall out by that.
        reach += 0.5 / context.video.timeline.sampling.rate
    times = context.video.timeline.pts_seconds[rows]
    return window_with_context(hits, rows, times, size=context.options.window, context_seconds=reach)

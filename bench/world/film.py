"""Make a real video file of a world: drawn frame by frame, encoded as H.264."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np

from bench.world.draw import draw_scene
from bench.world.scenes import World

__all__ = ["film_world"]


def film_world(world: World, path: Path, *, crf: int = 26, keyframe_every: int = 250) -> Path:
    """Write a world's video; a file that is there already is kept. Several processes may film the same one at once.

    Args:
        world: what to film.
        path: an ``.mp4`` file; its folder is made.
        crf: x264's quality, smaller is better.
        keyframe_every: longest distance of key frames, in frames.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{secrets.token_hex(4)}-{path.name}")
    try:
        _film(world, unfinished, crf=crf, keyframe_every=keyframe_every)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _film(world: World, path: Path, *, crf: int, keyframe_every: int) -> None:
    import av

    rng = np.random.default_rng(world.seed)
    options = {"preset": "veryfast", "crf": str(crf), "threads": "1", "g": str(keyframe_every)}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=world.frame_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = world.width, world.height, "yuv420p"
        for number in range(int(world.duration_seconds * world.frame_rate)):
            seconds = float(number / world.frame_rate)
            picture = draw_scene(world.scene_at(seconds), seconds, width=world.width, height=world.height, rng=rng)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))

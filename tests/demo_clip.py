"""A short clip with known content, drawn and encoded on the spot.

Coloured shapes move over plain grounds, scene after scene with hard cuts; encoded as H.264, so
that everything after it is the way of any video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from hybrid.values import ByteArray

__all__ = ["DEMO_SCENES", "Scene", "write_demo_clip", "write_many_clips"]

Shape = Literal["circle", "square", "triangle"]

WIDTH, HEIGHT = 320, 240
FRAME_RATE = Fraction(30000, 1001)
"""NTSC's 29.97 frames a second, where counting frames as if they were 30 goes wrong."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One shape on one ground for some seconds."""

    shape: Shape
    colour: tuple[int, int, int]
    ground: tuple[int, int, int]
    seconds: float


DEMO_SCENES = (
    Scene("circle", (220, 40, 40), (30, 30, 60), 6),
    Scene("square", (40, 160, 60), (200, 190, 160), 5),
    Scene("triangle", (240, 200, 40), (60, 20, 60), 8),
    Scene("circle", (50, 90, 220), (220, 220, 220), 7),
    Scene("square", (230, 120, 30), (20, 60, 60), 6),
    Scene("triangle", (200, 60, 180), (180, 200, 170), 8),
)


def write_demo_clip(place: Path, scenes: Sequence[Scene] = DEMO_SCENES) -> Path:
    """Encode scenes (by default the demo's, 40 s) at 320x240 and 29.97 frames a second to an ``.mp4`` file."""
    import av

    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".unfinished-{place.name}")
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options={"preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for scene in scenes:
            count = round(scene.seconds * FRAME_RATE)
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(_draw(scene, number / count), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    unfinished.replace(place)
    return place


def write_many_clips(folder: Path, count: int) -> Path:
    """Clips of one scene each, of different lengths, so that each is another video."""
    for number in range(count):
        scene = DEMO_SCENES[number % len(DEMO_SCENES)]
        write_demo_clip(folder / f"clip{number}.mp4", [replace(scene, seconds=4 + number)])
    return folder


def _draw(scene: Scene, progress: float) -> ByteArray:
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), scene.ground)
    draw = ImageDraw.Draw(image)
    x, y, r = round(60 + 200 * progress), HEIGHT // 2, 45
    if scene.shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=scene.colour)
    elif scene.shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=scene.colour)
    else:
        draw.polygon(((x, y - r), (x - r, y + r), (x + r, y + r)), fill=scene.colour)
    return np.asarray(image)

"""Draw a moment of a scene as a picture, at any size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bench.world.scenes import Backdrop, Placement, Scene
from hybrid.values import ByteArray, Float32Array

__all__ = ["draw_scene"]


def draw_scene(
    scene: Scene,
    seconds: float,
    *,
    width: int,
    height: int,
    rng: np.random.Generator | None = None,
) -> ByteArray:
    """The picture that a scene shows.

    Args:
        scene: what to draw.
        seconds: time of the video.
        width, height: of the picture; things keep their shape in pictures of 4:3 only.
        rng: draws the camera's noise; None for none.

    Returns:
        uint8 [height, width, 3] RGB.
    """
    picture = _backdrop(scene.backdrop, width, height).copy()
    for placement in scene.placements:
        _paint(picture, placement, seconds - scene.start_seconds)
    picture *= scene.brightness * scene.level(seconds)
    if rng is not None and scene.noise > 0:
        # One value for the three channels; the noise of a smaller picture is the mean of more pixels.
        scale = scene.noise * min(1.0, width / 320)
        picture += rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(scale)
    drawn: ByteArray = np.clip(picture, 0, 255).astype(np.uint8)
    return drawn


@lru_cache(maxsize=8)
def _grid(width: int, height: int) -> tuple[Float32Array, Float32Array]:
    """x and y of the pixels' middles, in units of the height."""
    x: Float32Array = ((np.arange(width) + 0.5) / width * 4 / 3).astype(np.float32)[None, :]
    y: Float32Array = ((np.arange(height) + 0.5) / height).astype(np.float32)[:, None]
    return x, y


@lru_cache(maxsize=4)
def _backdrop(backdrop: Backdrop, width: int, height: int) -> Float32Array:
    x, y = _grid(width, height)
    along = x * np.float32(np.cos(backdrop.angle)) + y * np.float32(np.sin(backdrop.angle))
    wave = np.float32(2 * np.pi / backdrop.period)
    if backdrop.kind == "plain":
        mix = np.zeros((height, width), np.float32)
    elif backdrop.kind == "gradient":
        mix = np.clip(along / 1.7 + 0.3, 0, 1)
    elif backdrop.kind == "stripes":
        mix = (np.sin(along * wave + np.float32(backdrop.phase)) > 0).astype(np.float32)
    elif backdrop.kind == "checks":
        mix = ((np.sin(x * wave + np.float32(backdrop.phase)) * np.sin(y * wave)) > 0).astype(np.float32)
    else:
        mix = 0.5 + 0.25 * (np.sin(x * wave + np.float32(backdrop.phase)) + np.cos(y * wave * np.float32(0.8)))
    first, second = np.array(backdrop.first, np.float32), np.array(backdrop.second, np.float32)
    painted: Float32Array = (first + (second - first) * mix[:, :, None]).astype(np.float32)
    return painted


def _paint(picture: Float32Array, placement: Placement, seconds: float) -> None:
    """Draw one thing, touching only the part of the picture that it covers."""
    height, width = picture.shape[:2]
    centre_x, centre_y = placement.centre(seconds)
    reach = placement.radius * 1.3
    left, right = (int(np.clip((centre_x * 4 / 3 + side) / 4 * 3 * width, 0, width)) for side in (-reach, reach))
    top, bottom = (int(np.clip((centre_y + side) * height, 0, height)) for side in (-reach, reach))
    x, y = _grid(width, height)
    dx = (x[:, left : right + 1] - np.float32(centre_x * 4 / 3)) / np.float32(placement.radius)
    dy = (y[top : bottom + 1] - np.float32(centre_y)) / np.float32(placement.radius)
    cosine, sine = np.float32(np.cos(placement.angle)), np.float32(np.sin(placement.angle))
    distance = _distance(placement.thing.shape, dx * cosine + dy * sine, dy * cosine - dx * sine)
    # Half a pixel of soft edge on both sides.
    cover = np.clip(0.5 - distance * np.float32(placement.radius * height), 0, 1)[:, :, None]
    part = picture[top : bottom + 1, left : right + 1]
    part += (np.array(placement.rgb, np.float32) - part) * cover


def _distance(shape: str, x: Float32Array, y: Float32Array) -> Float32Array:
    """About how far outside of the shape a point lies (inside: negative), in units of its radius."""
    distance: Float32Array
    if shape == "circle":
        distance = np.hypot(x, y) - np.float32(1.0)
    elif shape == "ring":
        distance = np.abs(np.hypot(x, y) - np.float32(0.78)) - np.float32(0.26)
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - np.float32(0.88)
    elif shape == "cross":
        wide, thin = np.float32(1.08), np.float32(0.36)
        x, y = np.abs(x), np.abs(y)
        distance = np.minimum(np.maximum(x - wide, y - thin), np.maximum(x - thin, y - wide))
    elif shape == "triangle":
        slope = np.float32(np.sqrt(3) / 2)
        distance = np.maximum(y - np.float32(0.62), np.abs(x) * slope - y * np.float32(0.5) - np.float32(0.62))
    elif shape == "diamond":
        distance = (np.abs(x) * np.float32(1.3) + np.abs(y) - np.float32(1.1)) / np.float32(1.64)
    elif shape == "hexagon":
        slope = np.float32(np.sqrt(3) / 2)
        distance = np.maximum(np.abs(x) * slope + np.abs(y) * np.float32(0.5), np.abs(y)) - np.float32(0.88)
    elif shape == "bar":
        distance = np.maximum(np.abs(x) - np.float32(1.1), np.abs(y) - np.float32(0.4))
    elif shape == "star":
        distance = _star(x, y)
    else:
        raise ValueError(f"there is no shape {shape!r}")
    return distance


def _star(x: Float32Array, y: Float32Array) -> Float32Array:
    """Five points: each tenth of the circle is bounded by the line from a point to the next notch."""
    radius, sector = np.hypot(x, y), np.float32(np.pi / 5)
    turn = np.abs(np.mod(np.arctan2(x, -y) + sector, 2 * sector) - sector)
    point, notch = 1.2, 0.5
    # The line through (point, 0) and notch * (cos, sin) of the sector's end, and its normal.
    end_x, end_y = notch * np.cos(np.pi / 5), notch * np.sin(np.pi / 5)
    normal = np.array([end_y, point - end_x]) / np.hypot(end_y, point - end_x)
    offset = np.float32(normal[0] * point)
    distance: Float32Array = (
        radius * np.cos(turn) * np.float32(normal[0]) + radius * np.sin(turn) * np.float32(normal[1]) - offset
    )
    return distance

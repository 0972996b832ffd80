"""Examine an installation by doing what the engine does, with the models it would use.

Each check runs the real thing (a video is encoded and decoded, frames are embedded, an index is
written and searched, a reply is generated), so that a check that passes means that the stage works.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hybrid.errors import HybridError, MissingDependencyError
from hybrid.frames.registry import DECODERS, DEFAULT_DECODER, open_source
from hybrid.options.engine import EngineOptions
from hybrid.values import ByteArray, Sampling

__all__ = ["Check", "examine"]

State = Literal["ok", "missing", "broken"]

CLIP_SECONDS = 3
CLIP_SIZE = 64
NEEDED = ("av", "faiss-cpu", "lancedb", "numpy", "open_clip_torch", "torch", "transformers")
REPLACED_BY = {"faiss-cpu": "faiss-gpu"}


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes:
        name: of the check.
        state: ``ok``; ``missing``: something optional is not there; ``broken``: questions will fail,
            or be answered without this stage.
        found: one line.
        seconds: how long it took.
        remedy: the command that mends it, if one is known.
    """

    name: str
    state: State
    found: str
    seconds: float
    remedy: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


def examine(options: EngineOptions) -> Iterator[Check]:
    """Run all checks, one after another; none of them ends the run.

    Args:
        options: the models that are tried, their device and dtype.
    """
    from indexes.stores.registry import PACKAGES, STORES

    device, dtype = options.device, options.dtype
    yield _timed("packages", _packages, remedy="pip install . (in the project's folder)")
    yield _timed("device", lambda: _device(device), remedy="--device cpu, or install a CUDA build of torch")
    with tempfile.TemporaryDirectory(prefix="hybrid-doctor-") as folder:
        video = Path(folder) / "clip.mp4"
        for decoder in DECODERS.names:
            remedy = f"use --decoder {DEFAULT_DECODER}, the default"
            if decoder == DEFAULT_DECODER:
                remedy = "pip install --force-reinstall av"
            decode = partial(_decode, video, decoder)
            yield _timed(f"decode ({decoder})", decode, remedy=remedy, optional=decoder != DEFAULT_DECODER)
        hub = "on a machine without a model hub: --encoder local-dir:FOLDER, or --preset tiny"
        yield _timed("embed", lambda: _embed(options.encoder_name, device, dtype), remedy=hub)
        for backend in STORES.names:
            search = partial(_search, Path(folder) / backend, backend)
            yield _timed(f"index ({backend})", search, remedy=f"pip install {PACKAGES.get(backend, backend)}")
        hub = "on a machine without a model hub: --sampler FOLDER, or --preset tiny; without GenS: --no-fine"
        yield _timed("generate", lambda: _generate(options.sampler_name, device, dtype), remedy=hub)


def _timed(name: str, action: Callable[[], str], *, remedy: str, optional: bool = False) -> Check:
    started = time.perf_counter()
    try:
        found = action()
    except HybridError as exc:
        state: State = "missing" if optional and isinstance(exc, MissingDependencyError) else "broken"
        return Check(name, state, str(exc), time.perf_counter() - started, remedy)
    except Exception as exc:  # whatever it is, the doctor's work is to report it
        return Check(name, "broken", f"{type(exc).__name__}: {exc}", time.perf_counter() - started, remedy)
    return Check(name, "ok", found, time.perf_counter() - started)


def _packages() -> str:
    found, absent = [f"python {platform.python_version()}"], []
    for name in NEEDED:
        for candidate in filter(None, (name, REPLACED_BY.get(name))):
            try:
                found.append(f"{candidate} {metadata.version(candidate)}")
                break
            except metadata.PackageNotFoundError:
                continue
        else:
            absent.append(name)
    if absent:
        raise HybridError(f"not installed: {', '.join(absent)}")
    return ", ".join(found)


def _device(device: str) -> str:
    import torch

    from hybrid.runtime import choose_device

    chosen = choose_device(device)
    if chosen.type != "cuda":
        return f"{chosen} ({torch.get_num_threads()} threads)"
    free, total = torch.cuda.mem_get_info(chosen)
    name = torch.cuda.get_device_name(chosen)
    return f"{chosen}: {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def _decode(video: Path, decoder: str) -> str:
    if not video.exists():
        _write_clip(video)
    with open_source(video, Sampling(), decoder=decoder) as source:
        batches = list(source.read())
    shades = [float(image.mean()) for batch in batches for image in batch.rgb]
    times = [float(pts) for batch in batches for pts in batch.pts_seconds]
    if times != [float(second) for second in range(CLIP_SECONDS)]:
        raise HybridError(f"frames came at {times} s; expected one each second of {CLIP_SECONDS}")
    if any(abs(shade - _shade(second)) > 12 for second, shade in enumerate(shades)):
        raise HybridError(f"the frames' brightness is {shades}; these are other frames than those that were written")
    return f"{len(times)} frames of a clip that was written just now, at the right times"


def _shade(second: int) -> int:
    return 40 + 70 * second


def _write_clip(place: Path) -> None:
    import av

    with av.open(str(place), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(10 * CLIP_SECONDS):
            pixels: ByteArray = np.full((CLIP_SIZE, CLIP_SIZE, 3), _shade(number // 10), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def _embed(name: str, device: str, dtype: str) -> str:
    from hybrid.clip.registry import load_encoder

    encoder = load_encoder(name, device=device, dtype=dtype)
    frames = [np.full((CLIP_SIZE, CLIP_SIZE, 3), _shade(second), dtype=np.uint8) for second in range(CLIP_SECONDS)]
    vectors = np.concatenate(list(encoder.encode_frames(frames)))
    text = encoder.encode_text("a grey wall").vector
    lengths = np.linalg.norm(np.vstack([vectors, text[None]]), axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):
        raise HybridError(f"{name} gave vectors of length {lengths.min():.3f} to {lengths.max():.3f}; expected 1")
    return f"{encoder.name} on {encoder.device}, {vectors.shape[1]} values a frame, {encoder.identity['precision']}"


def _search(folder: Path, backend: str) -> str:
    from indexes.format.layout import VectorKey
    from indexes.stores.registry import open_store

    vectors = np.eye(8, 16, dtype=np.float32)
    key = VectorKey("d0c7" * 8, "01")
    folder.mkdir()
    store = open_store(folder, backend)
    try:
        store.write(key, vectors)
        rows = store.search(key, vectors[5], 3).rows.tolist()
    finally:
        store.close()
    if rows[0] != 5:
        raise HybridError(f"a search for row 5 found {rows}")
    return "8 vectors written and found"


def _generate(name: str, device: str, dtype: str) -> str:
    from hybrid.fine.interface import read_window
    from hybrid.fine.load import load_scorer

    scorer = load_scorer(name, device=device, dtype=dtype)
    frames = [np.full((CLIP_SIZE, CLIP_SIZE, 3), _shade(second), dtype=np.uint8) for second in range(CLIP_SECONDS)]
    scores = read_window(scorer, frames, "When does the wall get brighter?")
    return f"{scorer.name} on {scorer.device}: {scores.prompt_tokens} tokens in, {scores.new_tokens} out"

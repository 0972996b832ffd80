"""An engine on small checkpoints, and a clip with known content."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.clip.open_clip import ClipEncoder
from hybrid.clip.registry import load_encoder
from hybrid.engine import Engine
from hybrid.fine.decoding.options import LoopOptions
from hybrid.fine.features import FrameFeatures
from hybrid.fine.interface import Event, FineModel, Request, WindowScores
from hybrid.fine.qwen.load import QwenScorer
from hybrid.fine.reply import parse_reply
from hybrid.values import ByteArray
from tests.demo_clip import write_demo_clip
from tests.fine.reading import OneByOne


@pytest.fixture(scope="session")
def demo_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_clip(tmp_path_factory.mktemp("demo") / "clip.mp4")


@pytest.fixture(scope="session")
def tiny_encoder(clip_folder: Path) -> ClipEncoder:
    return load_encoder(f"local-dir:{clip_folder}", device="cpu")


@pytest.fixture(scope="session")
def tiny_scorer(gens_folder: Path) -> FineModel:
    from hybrid.fine.load import load_scorer

    return load_scorer(gens_folder, device="cpu")


class Recorded(OneByOne):
    """A scorer that replies what it was given, through the real parser, and keeps what it was shown."""

    name, device = "recorded", "cpu"
    identity: Mapping[str, str] = {"kind": "recorded"}

    def __init__(self, *replies: str) -> None:
        self.replies = replies
        self.shown: list[list[ByteArray]] = []

    def prepare(self, frame: ByteArray) -> ByteArray:
        return np.ascontiguousarray(frame[::2, ::2])

    def score(self, frames: Sequence[ByteArray], question: str) -> WindowScores:
        text = self.replies[min(len(self.shown), len(self.replies) - 1)]
        self.shown.append(list(frames))
        parsed = parse_reply(text, len(frames))
        return WindowScores(scores=parsed.scores, status=parsed.status, text=text, notes=parsed.notes)


class Counted(QwenScorer):
    """A real scorer that counts: how many frames went through its tower, how many pairs came together."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.encoded: list[int] = []
        self.asked: list[list[str]] = []
        """For each call of ``read``, the keys of its windows."""

    def encode_frames(self, frames: Sequence[ByteArray]) -> FrameFeatures:
        self.encoded.append(len(frames))
        return super().encode_frames(frames)

    def read(self, requests: Sequence[Request], *, partial: bool = False) -> Generator[Event, None, None]:
        self.asked.append([request.frames.key for request in requests])
        yield from super().read(requests, partial=partial)


def counted_from(scorer: Any, *, batch: int = 32, **prompt: Any) -> Counted:
    """A counting scorer of the same checkpoint, whose replies are short and always hold scores."""
    spec = replace(scorer.prompt, **{"max_new_tokens": 24, **prompt})
    return Counted(scorer._checkpoint, spec, LoopOptions(constrained=True, batch=batch))


@pytest.fixture
def open_engine(tmp_path: Path, clip_folder: Path, gens_folder: Path) -> Iterator[Callable[..., Engine]]:
    """``open_engine(**options)``: an engine on an archive of the test's own."""
    opened: list[Engine] = []

    def make(*, scorer: FineModel | None = None, archive: Path | None = None, **options: object) -> Engine:
        given = {"encoder": f"local-dir:{clip_folder}", "sampler": str(gens_folder), "device": "cpu", **options}
        engine = Engine.open(archive or tmp_path / "archive", **given)  # type: ignore[arg-type]
        if scorer is not None:
            engine = Engine(engine.archive, engine.settings, fine_model=scorer)
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close()

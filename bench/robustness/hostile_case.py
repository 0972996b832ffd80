"""One hostile input: what it is, and the command lines that meet it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import blake3

from bench.robustness.small_videos import write_small_videos
from hybrid.demo import demo_video
from hybrid.engine import Engine
from hybrid.presets import PRESETS
from indexes.maintenance.transfer import export_index

__all__ = ["KINDS", "Case", "Ground", "Kind", "Maker", "clean_cases", "digest_of", "index_case", "prepare", "resealed"]

Kind = Literal["images", "playlists", "folders", "packages", "documents"]
KINDS: tuple[Kind, ...] = ("images", "playlists", "folders", "packages", "documents")

DATASET = "videomme"
TINY = ("--preset", "tiny", "--device", "cpu")


@dataclass(frozen=True, slots=True)
class Ground:
    """What is sound, and lies beside every hostile input.

    Attributes:
        folder: holds the rest.
        clip: a short video, which is indexed.
        archive: of three videos; each case works on a copy.
        package: an export of the clip's index.
        other: an archive without the clip.
        sampler, encoder: folders of the bundled models.
    """

    folder: Path
    clip: Path
    archive: Path
    package: Path
    other: Path
    sampler: Path
    encoder: Path

    def copy_of(self, source: Path, folder: Path) -> Path:
        """A copy of an archive or a model for one case."""
        return Path(shutil.copytree(source, folder / source.name))


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile input.

    Attributes:
        kind: the group that it belongs to.
        name: what is hostile about it.
        command: arguments of ``hybrid``, or of ``bench.accuracy`` if the first one is ``dataset``.
        clean: which clean command its time and memory are compared with, by name.
        refused: whether the command must fail; it need not where there is an honest result, too.
        after: further commands, each of which must end with exit code 0: what was met must have harmed nothing.
    """

    kind: Kind
    name: str
    command: tuple[str, ...]
    clean: str
    refused: bool = False
    after: tuple[tuple[str, ...], ...] = ()


Maker = Callable[[Ground, Path, random.Random], Case]
"""Makes the files of a case in a folder of its own."""


def prepare(folder: Path) -> Ground:
    """Make what is sound."""
    clips = write_small_videos([demo_video()], folder / "clips", 3, seconds=4.0)
    for name in ("archive", "other"):
        with Engine.open(folder / name, preset="tiny", device="cpu") as engine:
            for clip in clips[name == "other" :]:
                engine.index(clip)
            if name == "archive":
                manifest = next(m for m in engine.archive.manifests() if m.source.path == str(clips[0]))
                export_index(engine.archive, manifest, folder / "clip.hybrid")
    models = folder / "models"
    encoder, sampler = Path(PRESETS["tiny"].encoder.removeprefix("local-dir:")), Path(PRESETS["tiny"].sampler)
    shutil.copytree(encoder, models / "encoder")
    shutil.copytree(sampler, models / "sampler")
    return Ground(
        folder,
        clips[0],
        folder / "archive",
        folder / "clip.hybrid",
        folder / "other",
        models / "sampler",
        models / "encoder",
    )


def digest_of(document: dict[str, Any]) -> str:
    """The digest of a manifest without its own, or the fingerprint of a configuration."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return blake3.blake3(text.encode()).hexdigest(length=16)


def resealed(document: dict[str, Any]) -> bytes:
    """A manifest whose digest is right, whatever else is not."""
    document.pop("digest", None)
    return json.dumps({**document, "digest": digest_of(document)}).encode()


def index_case(kind: Kind, name: str, path: Path, folder: Path, *, refused: bool = False) -> Case:
    """Index a path into an archive of its own."""
    archive = str(folder / "made")
    command = ("index", str(path), "--archive", archive, *TINY, "--workers", "0", "--json")
    return Case(kind, name, command, "index", refused)


def clean_cases(ground: Ground, folder: Path) -> dict[str, Case]:
    """The sound command of each name that cases are compared with."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = str(ground.copy_of(ground.archive, folder))
    other = str(ground.copy_of(ground.other, folder))
    questions, data = folder / "questions.txt", folder / "data.json"
    questions.write_text("a red circle\n", encoding="utf-8")
    data.write_text("[]", encoding="utf-8")
    ask = ("ask", str(ground.clip), "a red circle", "--archive", archive, *TINY)
    commands = {
        "index": index_case("folders", "clean", ground.clip, folder).command,
        "ask": ask,
        "questions": (*ask[:2], "--questions", str(questions), *ask[3:], "--no-fine"),
        "search": ("search", "a red circle", "--archive", archive, *TINY),
        "import": ("import", str(ground.package), "--archive", other),
        "dataset": ("dataset", *dataset_arguments(data, folder)),
        **{verb: (verb, "--archive", archive) for verb in ("list", "stats", "verify", "compact")},
    }
    return {name: Case("documents", "clean", command, name) for name, command in commands.items()}


def dataset_arguments(data: Path, folder: Path) -> tuple[str, ...]:
    """The benchmark reads a data set, and then the report of a run."""
    given = ("--dataset", DATASET, "--data", str(data), "--videos", str(folder), "--method", "uniform")
    return (
        *given,
        "--archive",
        str(folder / "archive"),
        "--out",
        str(folder / "run"),
        "--preset",
        "tiny",
        "--report-only",
    )

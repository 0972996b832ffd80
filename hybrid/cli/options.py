"""The options that several verbs share, declared once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import typer

from hybrid.errors import InputError
from hybrid.frames.registry import DECODERS, DEFAULT_DECODER
from hybrid.presets import DEFAULT_PRESET, PRESETS
from hybrid.values import DEFAULT_CONTEXT_SECONDS, DEFAULT_SEGMENTS, DEFAULT_WINDOW
from indexes.stores.registry import STORES

if TYPE_CHECKING:
    from hybrid.engine import Engine
    from hybrid.options.ask import WindowMode

DEFAULT_ARCHIVE = "hybrid-archive"


class Policy(str, Enum):
    """Sampling policies."""

    exact = "exact"
    keyframes = "keyframes"


_ARCHIVE_HELP = "Folder with the indexes, or s3://BUCKET/PREFIX"

ArchiveOption: TypeAlias = Annotated[
    str, typer.Option("--archive", envvar="HYBRID_ARCHIVE", help=f"{_ARCHIVE_HELP}; must be there.")
]
NewArchiveOption: TypeAlias = Annotated[
    str, typer.Option("--archive", envvar="HYBRID_ARCHIVE", help=f"{_ARCHIVE_HELP}; made if it is not there.")
]
PresetOption: TypeAlias = Annotated[
    str, typer.Option("--preset", help=f"Models: {', '.join(PRESETS)} (gens-aria: see hybrid convert-gens).")
]
EncoderOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--encoder", help="CLIP encoder instead of the preset's: ARCHITECTURE/TAG or local-dir:FOLDER."),
]
SamplerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="GenS checkpoint instead of the preset's: hub name or folder.",
    ),
]
RateOption: TypeAlias = Annotated[
    float | None, typer.Option("--rate", help="Samples per second; if not said, as indexed, or 1.")
]
SamplingOption: TypeAlias = Annotated[
    Policy | None,
    typer.Option(
        "--sampling", help="exact (the frame shown at 0, 1, 2 ... s) or keyframes (faster); as indexed, or exact."
    ),
]
BackendOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--backend", help=f"For a new archive: {', '.join(STORES.names)}; default: {STORES.names[0]}."),
]
DecoderOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--decoder", help=f"Decoder of video files: {', '.join(DECODERS.names)} (default: {DEFAULT_DECODER})."
    ),
]
DeviceOption: TypeAlias = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")]
LoadingOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--loading", help="GenS on Aria: 8bit or 4bit, offload or offload:FOLDER; with commas between."),
]
PromptOption: TypeAlias = Annotated[Path | None, typer.Option("--prompt", help="File with a prompt for the sampler.")]
DtypeOption: TypeAlias = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
BatchOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--batch-size", help="Frames that CLIP encodes at once; what suits the device if not said."),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="For machines.")]
WindowOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--window", help="What GenS reads: scattered (if not said), context, segments; or a number of scattered frames."
    ),
]
WindowFramesOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--window-frames", help=f"How many frames GenS reads at once; {DEFAULT_WINDOW} if not said."),
]
SegmentsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--segments", help=f"With --window segments: how many of them GenS reads; {DEFAULT_SEGMENTS} if not said."
    ),
]
ContextOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--context",
        help="With --window context: seconds around a frame that are read with it; "
        f"{DEFAULT_CONTEXT_SECONDS:g} if not said.",
    ),
]

__all__ = [
    "DEFAULT_ARCHIVE",
    "DEFAULT_PRESET",
    "SHOWN_FRAMES",
    "ArchiveOption",
    "BackendOption",
    "BatchOption",
    "ContextOption",
    "DecoderOption",
    "DeviceOption",
    "DtypeOption",
    "EncoderOption",
    "JsonOption",
    "LoadingOption",
    "NewArchiveOption",
    "Policy",
    "PresetOption",
    "PromptOption",
    "RateOption",
    "SamplerOption",
    "SamplingOption",
    "SegmentsOption",
    "WindowFramesOption",
    "WindowOption",
    "check_without_gens",
    "open_engine",
    "read_window",
]

SHOWN_FRAMES = 8
"""How many frames are named where there is one line for them."""


def check_without_gens(why: str, **given: object) -> None:
    """Refuse what says how GenS is loaded or asked, where it is left out: it would decide nothing.

    Which GenS (--sampler) may be said beside an explicit no, so that one choice of models serves all commands; where
    it is left out only because nothing asked for it, whoever names it expects it, and is told what asks for it.

    Args:
        why: why it is left out, and what to do about it.
        given: options by their names, with ``_`` for ``-``; None and False: not said.

    Raises:
        InputError: one of them is said.
    """
    for name, value in given.items():
        if value is not None and value is not False:
            option = f"--{name.replace('_', '-')}"
            said = f"{option} is" if value is True else f"{option} is {str(value)!r}, which is"
            raise InputError(f"{said} for GenS, and {why}, or leave out {option}")


def read_window(text: str | None, frames: int | None) -> tuple[WindowMode | None, int | None]:
    """The mode that --window names, and how many frames a window holds; None: not said.

    Raises:
        InputError: it is neither a mode nor a number, or two numbers are said.
    """
    if text is None or text in ("scattered", "context", "segments"):
        return cast("WindowMode | None", text), frames
    try:
        size = int(text)
    except ValueError:
        raise InputError(
            f"--window is {text!r}; legal are scattered, context, segments, or a number of frames"
        ) from None
    if frames is not None:
        raise InputError(
            f"--window is {size} and --window-frames {frames}, which both say how many frames GenS reads; leave out one"
        )
    return "scattered", size


def open_engine(
    archive: str,
    *,
    preset: str,
    encoder: str | None,
    sampler: str | None,
    rate: float | None,
    sampling: Policy | None,
    backend: str | None,
    decoder: str | None,
    device: str,
    dtype: str,
    batch_size: int | None = None,
    prompt: Path | None = None,
    loading: str | None = None,
    constrained: bool = False,
    create: bool = True,
) -> Engine:
    """The engine that the options describe; ``create``: an archive that is not there is made."""
    from hybrid.engine import Engine

    return Engine.open(
        archive,
        preset=preset,
        encoder=encoder,
        sampler=sampler,
        rate=rate,
        sampling=sampling.value if sampling else None,
        backend=backend,
        decoder=decoder,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        prompt=prompt,
        loading=loading,
        constrained=constrained,
        create=create,
    )

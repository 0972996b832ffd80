"""Whether the index of a video is the one that the caller's settings ask for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from hybrid.clip.encoder import FrameEncoder
from hybrid.engine.settings import Settings, wanted_config
from hybrid.errors import IndexMismatchError
from indexes.manifest import IndexConfig, Manifest, Scalar, differences

__all__ = ["check_index", "encoder_changes"]


def check_index(
    place: str, settings: Settings, manifest: Manifest, path: Path, *, identity: Mapping[str, Scalar] | None = None
) -> None:
    """Refuse an index that was made otherwise than the caller said.

    Args:
        place: of the archive, for the command that makes the index anew.
        settings: the caller's.
        manifest: of the index.
        path: of the video.
        identity: of the encoder that is loaded; None looks at rate, policy and decoder only, for which
            no model is needed.

    Raises:
        IndexMismatchError: it was made with another configuration.
    """
    encoder = manifest.config.encoder if identity is None else identity
    wanted = wanted_config(settings, encoder, kind=manifest.video.kind, stored=manifest)
    changes = differences(manifest.config, wanted)
    if changes:
        raise IndexMismatchError(
            f"the index of {path} was made with another configuration ({'; '.join(changes)}); ask with the one it was "
            f"made with, or make it anew: {shlex.join(_command(place, settings, wanted, path))}"
        )


def encoder_changes(settings: Settings, encoder: FrameEncoder, manifest: Manifest) -> list[str]:
    """What sets the encoder of a video's index apart from this one, one line each; none if it is the same."""
    wanted = wanted_config(settings, encoder.identity, kind=manifest.video.kind, stored=manifest)
    return [line for line in differences(manifest.config, wanted) if line.startswith("encoder.")]


def _command(place: str, settings: Settings, wanted: IndexConfig, path: Path) -> list[str]:
    """What makes the index anew as the caller wants it."""
    command = ["hybrid", "index", str(path), "--archive", place]
    command += ["--preset", settings.preset, "--rate", f"{wanted.rate:g}", "--sampling", wanted.policy]
    command += ["--encoder", settings.encoder] if settings.encoder else []
    command += ["--decoder", wanted.decoder] if wanted.decoder == "decord" else []
    command += ["--dtype", settings.dtype] if settings.dtype != "auto" else []
    return command

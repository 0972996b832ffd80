"""Whether the index of a video is the one that the caller's settings ask for, and that today's rules would make."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from hybrid.clip.interface import FrameEncoder
from hybrid.clip.registry import encoder_name_of, identity_of_name
from hybrid.engine.settings import requested_config
from hybrid.errors import IndexMismatchError, VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.registry import DEFAULT_DECODER, FOLDER
from hybrid.frames.rules import FRAME_RULES, Indexed, frames_changed_reason
from hybrid.options.engine import EngineOptions
from hybrid.presets import PRESETS
from indexes.format.manifest import IndexConfig, Manifest, Scalar, differences

__all__ = [
    "check_encoder_name",
    "check_frames",
    "check_index",
    "encoder_changes",
    "frames_changed",
    "name_changes",
    "older_note",
    "option_for_encoder",
]


def check_index(
    uri: str,
    settings: EngineOptions,
    manifest: Manifest,
    path: Path,
    *,
    identity: Mapping[str, Scalar] | None = None,
) -> None:
    """Refuse an index that was made otherwise than the caller said.

    Args:
        uri: of the archive, for the command that makes the index anew.
        settings: the caller's.
        manifest: of the index.
        path: of the video.
        identity: of the encoder that is loaded; None looks at rate, policy and decoder only, for which
            no model is needed.

    Raises:
        IndexMismatchError: it was made with another configuration.
    """
    encoder = manifest.config.encoder if identity is None else identity
    requested = requested_config(settings, encoder, kind=manifest.video.kind, stored=manifest)
    changes = differences(manifest.config, requested)
    if changes:
        raise IndexMismatchError(
            f"the index of {path} was made with another configuration ({'; '.join(changes)}); ask with the one it was "
            f"made with, or make it anew: {shlex.join(_command(uri, settings, requested, path))}"
        )


def check_encoder_name(uri: str, settings: EngineOptions, name: str | None, manifest: Manifest, path: Path) -> None:
    """Refuse an index whose encoder has another name than the one that is about to be loaded.

    Loading can take minutes, and fail for a reason that has nothing to do with the mistake.

    Args:
        uri, settings, manifest, path: as for :func:`check_index`.
        name: of the encoder; None if it is loaded, so that :func:`check_index` can look at all of it.

    Raises:
        IndexMismatchError: its name shows that it is another one.
    """
    changes = name_changes(name, manifest)
    if name is None or not changes:
        return
    identity = {**manifest.config.encoder, **identity_of_name(name)}
    requested = requested_config(settings, identity, kind=manifest.video.kind, stored=manifest)
    raise IndexMismatchError(
        f"the index of {path} was made with another encoder ({'; '.join(changes)}); ask with the one it was made with: "
        f"{option_for_encoder(manifest)}; or make it anew: {shlex.join(_command(uri, settings, requested, path))}"
    )


def name_changes(name: str | None, manifest: Manifest) -> list[str]:
    """What an encoder's name shows to be another than that of a video's index, one line each."""
    stored = manifest.config.encoder
    if name is None or "encoder" not in stored:
        return []
    given = identity_of_name(name)
    return [
        f"encoder.{key}: {stored[key] or '(none)'} -> {value or '(none)'}"
        for key, value in given.items()
        if key in stored and stored[key] != value
    ]


def option_for_encoder(manifest: Manifest) -> str:
    """The option that names the encoder of a video's index."""
    stored = manifest.config.encoder
    for preset in PRESETS:
        if identity_of_name(PRESETS[preset].encoder).items() <= stored.items():
            return f"--preset {preset}"
    return f"--encoder {encoder_name_of(stored)}"


def encoder_changes(settings: EngineOptions, encoder: FrameEncoder, manifest: Manifest) -> list[str]:
    """What sets the encoder of a video's index apart from this one, one line each; none if it is the same."""
    requested = requested_config(settings, encoder.identity, kind=manifest.video.kind, stored=manifest)
    return [line for line in differences(manifest.config, requested) if line.startswith("encoder.")]


def _command(uri: str, settings: EngineOptions, requested: IndexConfig, path: Path) -> list[str]:
    """What makes the index anew as the caller wants it."""
    command = ["hybrid", "index", str(path), "--archive", uri]
    command += ["--preset", settings.preset, "--rate", f"{requested.rate:g}", "--sampling", requested.policy]
    command += ["--encoder", settings.encoder] if settings.encoder else []
    command += ["--decoder", requested.decoder] if requested.decoder not in (DEFAULT_DECODER, FOLDER) else []
    command += ["--dtype", settings.dtype] if settings.dtype != "auto" else []
    return command


def frames_changed(manifest: Manifest, path: Path) -> str | None:
    """Why the frames of an index are not those that are read of its video now; None if they are.

    Only an index by older rules costs more than a comparison: its file is opened.

    Args:
        manifest: of the index.
        path: where the video lies.

    Raises:
        VideoError: it cannot be opened.
    """
    if manifest.frame_rules >= FRAME_RULES:
        return None
    return frames_changed_reason(
        path,
        since=manifest.frame_rules,
        decoder=manifest.config.decoder,
        policy=manifest.config.policy,
        indexed=Indexed(manifest.video.duration_seconds, manifest.status == "partial", manifest.missing),
    )


def older_note(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """What to say of videos whose indexes were made by older rules; nothing where none was. No file is opened."""
    older = sum(manifest.frame_rules < FRAME_RULES for manifest in manifests)
    if not older:
        return ()
    number = plural(older, "index was", "indexes were")
    return (f"{number} made by older rules for reading frames; hybrid index looks whether that matters for the video",)


def check_frames(manifest: Manifest, path: Path, *, uri: str) -> None:
    """Refuse to read frames for an index that was made of others.

    Args:
        manifest, path: as for :func:`frames_changed`.
        uri: of the archive, for the command that mends it.

    Raises:
        VideoOpenError: it was, or it cannot be opened.
    """
    reason = frames_changed(manifest, path)
    if reason is not None:
        # Named, because another encoder would be taken for a wish to change it.
        command = f"{shlex.join(['hybrid', 'index', str(path), '--archive', uri])} {option_for_encoder(manifest)}"
        raise VideoOpenError(
            f"the index of {path} was made by older rules for reading frames, and its frames are others now: {reason}; "
            f"make it anew: {command}"
        )

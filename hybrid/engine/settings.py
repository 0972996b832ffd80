"""What the options of an engine mean for a video: the configuration of its index, and the record of an answer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid.errors import VideoOpenError
from hybrid.frames.registry import DECODERS, DEFAULT_DECODER, FOLDER
from hybrid.options.ask import AskOptions
from hybrid.options.engine import EngineOptions
from indexes.format.manifest import IndexConfig, Manifest, Scalar

__all__ = ["configuration_of", "requested_config", "stored_decoder"]


def requested_config(
    settings: EngineOptions, identity: Mapping[str, Scalar], *, kind: str, stored: Manifest | None
) -> IndexConfig:
    """The configuration that a video's index must have.

    Args:
        settings: the caller's.
        identity: of the encoder that is loaded.
        kind: ``file`` or ``folder``.
        stored: the manifest of the index that is there, if any; what the caller did not say stays as
            it is there.
    """
    encoder = dict(identity)
    sampling = settings.new_sampling
    rate, policy = sampling.rate, sampling.policy
    decoder: str = FOLDER if kind == "folder" else settings.decoder or DEFAULT_DECODER
    if stored is not None:
        if settings.dtype == "auto" and {"precision"} <= encoder.keys() & stored.config.encoder.keys():
            encoder["precision"] = stored.config.encoder["precision"]
        rate = settings.rate or stored.config.rate
        policy = settings.sampling or stored.config.policy
        decoder = settings.decoder or stored.config.decoder if kind == "file" else decoder
    return IndexConfig(encoder=encoder, rate=rate, policy=policy, decoder=decoder)


def configuration_of(
    settings: EngineOptions, manifest: Manifest, options: AskOptions, *, sampler_name: str
) -> dict[str, Any]:
    """Everything that decides the answers to questions about a video, ready for ``json.dumps``.

    Args:
        settings: the caller's.
        manifest: of the video's index.
        options: how questions are answered.
        sampler_name: name of the GenS checkpoint that answers.
    """
    return {
        "video_id": manifest.video_id,
        "index": manifest.fingerprint,
        "sampler": sampler_name,
        "prompt": None if settings.prompt is None else settings.prompt.digest,
        "device": settings.device,
        "dtype": settings.dtype,
        "loading": settings.loading,
        "constrained": settings.constrained,
        "options": options.to_dict(),
    }


def stored_decoder(config: IndexConfig, path: Path) -> str:
    """The decoder that reads a video's frames again: the one that its index was made with.

    Raises:
        VideoOpenError: this version has no such decoder.
    """
    if config.decoder not in (FOLDER, *DECODERS.names):
        raise VideoOpenError(
            f"the index of {path} was made with the decoder {config.decoder!r}, which is not known here; legal are "
            f"{', '.join(DECODERS.names)}. Index it again with one of these: "
            f"{shlex.join(['hybrid', 'index', str(path), '--decoder', DEFAULT_DECODER])}"
        )
    return config.decoder

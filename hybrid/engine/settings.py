"""What a caller can set on an engine. None means: not said, so what is stored or usual holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.clip.registry import identity_of_name
from hybrid.errors import InputError, VideoOpenError
from hybrid.fine.aria.placement import read_loading
from hybrid.fine.prompt import PromptSpec
from hybrid.frames.registry import DECODERS, DEFAULT_DECODER, FOLDER, check_decoder
from hybrid.options.ask import AskOptions
from hybrid.presets import DEFAULT_PRESET, check_preset
from hybrid.runtime import DTYPE_NAMES
from hybrid.values import DEFAULT_RATE, Sampling, SamplingPolicy
from indexes.format.manifest import IndexConfig, Manifest, Scalar

__all__ = ["Settings", "configuration_of", "stored_decoder", "wanted_config"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What an engine works with.

    Attributes:
        preset: names the models (see :mod:`hybrid.presets`).
        encoder, sampler: go before the preset's.
        rate, policy: of sampling; if not said, those of the video's index, or 1 per second and ``exact``.
        decoder: if not said, that of the video's index, or ``pyav``.
        device, dtype: where models run and in which precision; ``auto`` decides. With ``auto``, an
            index in another precision of the same encoder is taken as it is.
        prompt: for GenS; by default the one beside the checkpoint, or GenS's own.
        batch_size: frames that CLIP encodes at once; by default what suits the device.
        loading: how a large GenS is loaded (see :func:`hybrid.fine.aria.placement.read_loading`).
        constrained: GenS can only write replies of its own form.
    """

    preset: str = DEFAULT_PRESET
    encoder: str | None = None
    sampler: str | None = None
    rate: float | None = None
    policy: SamplingPolicy | None = None
    decoder: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    prompt: PromptSpec | None = None
    batch_size: int | None = None
    loading: str | None = None
    constrained: bool = False

    def check(self) -> None:
        """Refuse what is not legal before any work is done.

        Raises:
            InputError: an unknown preset, kind of encoder, sampling, decoder, dtype or loading, a
                rate that is not above 0, or a batch size below 1.
        """
        check_preset(self.preset)
        _ = self.sampling
        read_loading(self.loading)
        if self.encoder is not None:
            identity_of_name(self.encoder)
        if self.decoder is not None:
            check_decoder(self.decoder)
        if self.dtype != "auto" and self.dtype not in DTYPE_NAMES:
            raise InputError(f"dtype is {self.dtype!r}; legal are 'auto', {', '.join(map(repr, DTYPE_NAMES))}")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; it must be at least 1")

    @property
    def sampling(self) -> Sampling:
        """The sampling of a video that is indexed."""
        return Sampling(rate=DEFAULT_RATE if self.rate is None else self.rate, policy=self.policy or "exact")


def wanted_config(
    settings: Settings, identity: Mapping[str, Scalar], *, kind: str, stored: Manifest | None
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
    sampling = settings.sampling
    rate, policy = sampling.rate, sampling.policy
    decoder: str = FOLDER if kind == "folder" else settings.decoder or DEFAULT_DECODER
    if stored is not None:
        if settings.dtype == "auto" and {"precision"} <= encoder.keys() & stored.config.encoder.keys():
            encoder["precision"] = stored.config.encoder["precision"]
        rate = settings.rate or stored.config.rate
        policy = settings.policy or stored.config.policy
        decoder = settings.decoder or stored.config.decoder if kind == "file" else decoder
    return IndexConfig(encoder=encoder, rate=rate, policy=policy, decoder=decoder)


def configuration_of(
    settings: Settings, manifest: Manifest, options: AskOptions, *, sampler_name: str
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

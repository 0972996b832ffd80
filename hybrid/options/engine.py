"""With which models, and in which way, an engine works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hybrid.errors import InputError
from hybrid.options.field import Choice, Options, Range, documented, option
from hybrid.presets import DEFAULT_PRESET, PRESETS, check_preset
from hybrid.values import DEFAULT_RATE, Sampling, SamplingPolicy

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hybrid.fine.prompt import PromptSpec
    from hybrid.options.keywords import EngineKeywords

__all__ = ["GENS", "EngineOptions"]

GENS = "GenS"
"""The panel of the options that say how GenS is loaded and asked."""


def _decoders() -> tuple[str, ...]:
    from hybrid.frames.registry import DECODERS

    return DECODERS.names


def _dtypes() -> tuple[str, ...]:
    from hybrid.runtime import DTYPE_NAMES

    return ("auto", *DTYPE_NAMES)


def _check_preset(name: str) -> str:
    return check_preset(name).name


def _read_name(value: str | Path) -> str:
    if not isinstance(value, str | Path):
        raise InputError(f"a model is named by a text or a path, not by {value!r}")
    return str(value)


def _read_encoder(value: str | Path) -> str:
    from hybrid.clip.registry import identity_of_name

    name = _read_name(value)
    identity_of_name(name)
    return name


def _read_prompt(value: str | Path | PromptSpec) -> Any:
    from hybrid.fine.prompt import read_prompt_file

    return read_prompt_file(Path(value)) if isinstance(value, str | Path) else value


def _check_loading(text: str) -> str:
    from hybrid.fine.families import read_loading

    read_loading(text)
    return text


@documented
@dataclass(frozen=True, slots=True, init=False, repr=False)
class EngineOptions(Options):
    """What an engine works with: what :meth:`hybrid.engine.Engine.open` takes besides the archive, as one object."""

    preset: str = option(
        DEFAULT_PRESET,
        f"Models: {', '.join(PRESETS)} (gens-aria: see hybrid convert-gens).",
        panel="models",
        parse=_check_preset,
    )
    encoder: str | None = option(
        None,
        "CLIP encoder instead of the preset's: ARCHITECTURE/TAG or local-dir:FOLDER.",
        panel="models",
        default_text="the preset's",
        parse=_read_encoder,
        accepts="str | Path",
        text_type=str,
    )
    sampler: str | None = option(
        None,
        "GenS checkpoint instead of the preset's: hub name or folder.",
        panel=GENS,
        default_text="the preset's",
        parse=_read_name,
        accepts="str | Path",
        text_type=str,
    )
    prompt: PromptSpec | None = option(
        None,
        "File with a prompt for the sampler.",
        panel=GENS,
        default_text="the one beside the checkpoint, or GenS's own",
        parse=_read_prompt,
        accepts="str | Path | PromptSpec",
        text_type=Path,
    )
    loading: str | None = option(
        None,
        "GenS on Aria: 8bit or 4bit, offload or offload:FOLDER; with commas between.",
        panel=GENS,
        default_text="all weights on the device",
        parse=_check_loading,
    )
    constrained: bool = option(False, "GenS can only write replies of its own form, always valid.", panel=GENS)
    rate: float | None = option(None, "Samples per second.", panel="sampling", default_text="as indexed, or 1")
    sampling: SamplingPolicy | None = option(
        None,
        "exact (the frame shown at 0, 1, 2 ... s) or keyframes (faster).",
        panel="sampling",
        default_text="as indexed, or exact",
        legal=Choice(get_args(SamplingPolicy)),
    )
    decoder: str | None = option(
        None, "Decoder of video files.", panel="sampling", default_text="as indexed, or pyav", legal=Choice(_decoders)
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1 ...", panel="machine")
    dtype: str = option(
        "auto",
        "Precision of the models; with auto, an index in another precision is used as it is.",
        panel="machine",
        legal=Choice(_dtypes),
    )
    batch_size: int | None = option(
        None,
        "Frames that CLIP encodes at once.",
        panel="machine",
        default_text="what suits the device",
        legal=Range(1, unit="frame"),
    )

    if TYPE_CHECKING:

        def __init__(self, **given: Unpack[EngineKeywords]) -> None: ...

    def check(self) -> None:
        """Refuse a rate that is not above 0.

        Raises:
            InputError: it is not.
        """
        _ = self.new_sampling

    @property
    def encoder_name(self) -> str:
        """The name of the CLIP encoder: the one that is set, else the preset's."""
        return self.encoder or PRESETS[self.preset].encoder

    @property
    def sampler_name(self) -> str:
        """The name of the fine-stage model: the one that is set, else the preset's."""
        return self.sampler or PRESETS[self.preset].sampler

    @property
    def new_sampling(self) -> Sampling:
        """The sampling of a video that is indexed for the first time."""
        return Sampling(rate=DEFAULT_RATE if self.rate is None else self.rate, policy=self.sampling or "exact")

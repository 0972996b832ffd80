"""The models of an engine: each is loaded when it is first needed, and held from then on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid.clip.encoder import FrameEncoder, load_encoder
from hybrid.errors import ModelLoadError
from hybrid.fine.interface import FeatureScorer, FrameScorer
from hybrid.options.engine import EngineOptions
from hybrid.presets import encoder_of, sampler_of
from hybrid.runtime import choose_device, choose_dtype, dtype_name
from indexes.format.manifest import Manifest

if TYPE_CHECKING:
    from hybrid.fine.feature_maker import FeatureMaker
    from hybrid.fine.known_weights import KnownWeights
    from hybrid.scorers.interface import VideoScorer

__all__ = ["HeldModels", "Models", "feature_maker_of"]


@dataclass(frozen=True, slots=True)
class Models:
    """What answers questions; loaded when it is needed.

    Attributes:
        encoder: gives the encoder of the index; is called if a coarse stage runs.
        scorer: gives GenS; is called if a fine stage runs.
        video_scorer: gives the scorer of ``scores``; is called if it has a model of its own.
        sampler_name: its name, for the record where it cannot be loaded.
    """

    encoder: Callable[[], FrameEncoder]
    scorer: Callable[[], FrameScorer]
    video_scorer: Callable[[], VideoScorer]
    sampler_name: str


def feature_maker_of(settings: EngineOptions) -> FeatureMaker:
    """What shows which stored features are those of the sampler that settings name. Nothing is downloaded.

    Raises:
        ModelError: its files cannot be looked at, or are not on this machine.
        InputError: it makes no features that could be stored.
    """
    from hybrid.fine.feature_maker import find_feature_maker

    return find_feature_maker(
        settings.sampler or sampler_of(settings.preset),
        device=settings.device,
        dtype=settings.dtype,
        prompt=settings.prompt,
        loading=settings.loading,
    )


class HeldModels:
    """What settings name, as far as it was needed. Not safe for several threads at once.

    Attributes:
        settings: name the models, their device and precision.
        names_sampler: whether the caller named a sampler or gave one; a preset's does not count.
    """

    def __init__(
        self,
        settings: EngineOptions,
        *,
        encoder: FrameEncoder | None = None,
        scorer: FrameScorer | None = None,
        video_scorers: Mapping[str, VideoScorer] | None = None,
    ) -> None:
        """``encoder`` and ``scorer`` go before what settings name; ``video_scorers`` are held all along, by name."""
        self.settings = settings
        self.names_sampler = settings.sampler is not None or scorer is not None
        self._encoder = encoder
        self._encoder_is_given = encoder is not None
        self._scorer = scorer
        self._scorer_failure: str | None = None
        self._feature_maker: FeatureMaker | None = None
        self._given_scorers = dict(video_scorers or {})
        self._video_scorer: tuple[str, VideoScorer] | None = None

    @property
    def encoder_device(self) -> str | None:
        """Where the encoder runs that is held now; None if there is none."""
        return None if self._encoder is None else self._encoder.device

    @property
    def encoder_name(self) -> str | None:
        """What the encoder is, or would be, loaded by; None if the caller gave one that is loaded."""
        if self._encoder_is_given:
            return None
        return self.settings.encoder or encoder_of(self.settings.preset)

    @property
    def sampler_name(self) -> str:
        """The name that it is, or would be, loaded by."""
        if self._scorer is not None:
            return self._scorer.name
        return self.settings.sampler or sampler_of(self.settings.preset)

    def encoder_for(self, stored: Manifest | None) -> FrameEncoder:
        """The encoder, in the precision of the stored index if the caller did not say another.

        Raises:
            ModelError: it cannot be loaded.
        """
        held = self._encoder
        if held is not None and self._encoder_is_given:
            return held
        dtype = self.settings.dtype
        if dtype == "auto" and stored is not None:
            dtype = str(stored.config.encoder.get("precision", "auto"))
        if dtype == "auto":
            dtype = dtype_name(choose_dtype("auto", choose_device(self.settings.device)))
        if held is not None and held.identity.get("precision") == dtype:
            return held
        self._encoder = load_encoder(
            str(self.encoder_name),
            device=self.settings.device,
            dtype=dtype,
            batch_size=self.settings.batch_size,
        )
        return self._encoder

    def scorer(self) -> FrameScorer:
        """GenS.

        Raises:
            ModelError: it cannot be loaded, or could not when it was first tried.
            MissingDependencyError: a package for it is not installed.
        """
        if self._scorer_failure is not None:
            # A hub that did not answer a minute ago is not asked again for every question. Only the
            # text is kept: the error itself would hold on to what was loaded until then.
            raise ModelLoadError(self._scorer_failure)
        if self._scorer is None:
            from hybrid.fine.decoding.options import LoopOptions
            from hybrid.fine.load import load_scorer

            try:
                self._scorer = load_scorer(
                    self.settings.sampler or sampler_of(self.settings.preset),
                    device=self.settings.device,
                    dtype=self.settings.dtype,
                    prompt=self.settings.prompt,
                    loading=self.settings.loading,
                    loop=LoopOptions(constrained=True) if self.settings.constrained else None,
                )
            except ModelLoadError as exc:
                self._scorer_failure = str(exc)
                raise
        return self._scorer

    def made_features(self, identity: Mapping[str, str], weights: KnownWeights) -> bool:
        """Whether stored features of this identity are those of GenS, which is not loaded to tell.

        Args:
            identity: of the features.
            weights: remembers what was read of checkpoints.

        Raises:
            ModelError: its files cannot be looked at or are not on this machine, or it could not be loaded before.
            InputError: it makes no features that could be stored.
        """
        if self._scorer is not None:
            return isinstance(self._scorer, FeatureScorer) and self._scorer.feature_identity == identity
        if self._scorer_failure is not None:
            raise ModelLoadError(self._scorer_failure)
        if self._feature_maker is None:
            self._feature_maker = feature_maker_of(self.settings)
        return self._feature_maker.made(identity, weights)

    def video_scorer(self, scores: str) -> VideoScorer:
        """The scorer of that name (see :mod:`hybrid.scorers.spec`): a given one, else the last one is kept.

        Raises:
            InputError: there is no such scorer, or one of its options has no legal value.
            ModelError: it cannot be loaded.
        """
        if scores in self._given_scorers:
            return self._given_scorers[scores]
        if self._video_scorer is None or self._video_scorer[0] != scores:
            from hybrid.scorers.spec import load_video_scorer

            self._video_scorer = None  # two large models need not be held at once
            loaded = load_video_scorer(
                scores,
                device=self.settings.device,
                dtype=self.settings.dtype,
                prompt=self.settings.prompt,
                loading=self.settings.loading,
                constrained=self.settings.constrained,
            )
            self._video_scorer = (scores, loaded)
        return self._video_scorer[1]

"""The models of an engine: each is loaded when it is first needed, and held from then on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid.clip.interface import FrameEncoder
from hybrid.clip.registry import load_encoder
from hybrid.errors import ModelLoadError
from hybrid.fine.interface import FeatureModel, FineModel
from hybrid.options.engine import EngineOptions
from hybrid.runtime import choose_device, choose_dtype, dtype_name
from indexes.format.manifest import Manifest

if TYPE_CHECKING:
    from hybrid.fine.feature_maker import FeatureMaker
    from hybrid.fine.known_weights import KnownWeights
    from hybrid.scorers.interface import VideoScorer

__all__ = ["ModelPool", "Models", "feature_maker_of"]


@dataclass(frozen=True, slots=True)
class Models:
    """What answers questions; loaded when it is needed.

    Attributes:
        encoder: gives the encoder of the index; called if a coarse stage runs.
        fine_model: gives the fine-stage model; called if a fine stage runs.
        video_scorer: gives the scorer of ``scores``; called if it has a model of its own.
        fine_model_name: for the record where it cannot be loaded.
    """

    encoder: Callable[[], FrameEncoder]
    fine_model: Callable[[], FineModel]
    video_scorer: Callable[[], VideoScorer]
    fine_model_name: str


def feature_maker_of(settings: EngineOptions) -> FeatureMaker:
    """What shows which stored features are those of the sampler that settings name. Nothing is downloaded.

    Raises:
        ModelError: its files cannot be looked at, or are not on this machine.
        InputError: it makes no features that could be stored.
    """
    from hybrid.fine.feature_maker import find_feature_maker

    return find_feature_maker(
        settings.sampler_name,
        device=settings.device,
        dtype=settings.dtype,
        prompt=settings.prompt,
        loading=settings.loading,
    )


class ModelPool:
    """The models that settings name; each is loaded once, when it is first needed, and kept.

    Several threads may ask for models: one loads, the others wait for it.

    Attributes:
        settings: name the models, their device and precision.
        chose_fine_model: whether the caller named a fine-stage model or gave one; a preset's does not count.
    """

    def __init__(
        self,
        settings: EngineOptions,
        *,
        encoder: FrameEncoder | None = None,
        fine_model: FineModel | None = None,
        video_scorers: Mapping[str, VideoScorer] | None = None,
    ) -> None:
        """``encoder`` and ``fine_model`` go before what settings name; ``video_scorers`` are kept by name."""
        self.settings = settings
        self.chose_fine_model = settings.sampler is not None or fine_model is not None
        self._lock = threading.RLock()
        self._encoder = encoder
        self._encoder_is_given = encoder is not None
        self._fine_model = fine_model
        self._load_failure: str | None = None
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
        return self.settings.encoder_name

    @property
    def fine_model_name(self) -> str:
        """The name that it is, or would be, loaded by."""
        if self._fine_model is not None:
            return self._fine_model.name
        return self.settings.sampler_name

    def encoder_for(self, stored: Manifest | None) -> FrameEncoder:
        """The encoder, in the precision of the stored index if the caller did not say another.

        Raises:
            ModelError: it cannot be loaded.
        """
        with self._lock:
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

    def fine_model(self) -> FineModel:
        """The fine-stage model.

        Raises:
            ModelError: it cannot be loaded, or could not when it was first tried.
            MissingDependencyError: a package for it is not installed.
        """
        with self._lock:
            if self._load_failure is not None:
                # A hub that did not answer a minute ago is not asked again for every question. Only the
                # text is kept: the error itself would hold on to what was loaded until then.
                raise ModelLoadError(self._load_failure)
            if self._fine_model is None:
                from hybrid.fine.decoding.options import LoopOptions
                from hybrid.fine.load import load_scorer

                try:
                    self._fine_model = load_scorer(
                        self.settings.sampler_name,
                        device=self.settings.device,
                        dtype=self.settings.dtype,
                        prompt=self.settings.prompt,
                        loading=self.settings.loading,
                        loop=LoopOptions(constrained=True) if self.settings.constrained else None,
                    )
                except ModelLoadError as exc:
                    self._load_failure = str(exc)
                    raise
            return self._fine_model

    def made_features(self, identity: Mapping[str, str], weights: KnownWeights) -> bool:
        """Whether stored features of this identity are those of GenS, which is not loaded to tell.

        Args:
            identity: of the features.
            weights: remembers what was read of checkpoints.

        Raises:
            ModelError: its files cannot be looked at or are not on this machine, or it could not be loaded before.
            InputError: it makes no features that could be stored.
        """
        with self._lock:
            if self._fine_model is not None:
                return isinstance(self._fine_model, FeatureModel) and self._fine_model.feature_identity == identity
            if self._load_failure is not None:
                raise ModelLoadError(self._load_failure)
            if self._feature_maker is None:
                self._feature_maker = feature_maker_of(self.settings)
            return self._feature_maker.made(identity, weights)

    def video_scorer(self, scores: str) -> VideoScorer:
        """The scorer of that name (see :mod:`hybrid.scorers.spec`): a given one, else the last one is kept.

        Raises:
            InputError: there is no such scorer, or one of its options has no legal value.
            ModelError: it cannot be loaded.
        """
        with self._lock:
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

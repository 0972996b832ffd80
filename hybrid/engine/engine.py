"""Engine: index a video, ask about it. Three lines are enough::

engine = Engine.open("archive/", preset="gens-3b")
engine.index("talk.mp4")
answer = engine.ask("talk.mp4", "When is the diagram drawn?", frames=32)
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid.clip.encoder import FrameEncoder, load_encoder
from hybrid.engine.asking import Models, answer_questions, check_questions
from hybrid.engine.feature_rows import Tower, why_not_kept
from hybrid.engine.features import fill_features, is_complete
from hybrid.engine.gens_errors import gens_errors
from hybrid.engine.indexing import FeatureTap, IndexResult, index_video, place_of, unchanged
from hybrid.engine.searching import SearchModels, SearchOptions, search_archive
from hybrid.engine.settings import Settings, file_decoder, wanted_config
from hybrid.engine.streaming import ListenerError, OnSpans
from hybrid.engine.work import AskKeywords, AskOptions, WindowMode, Work
from hybrid.errors import (
    IndexDamagedError,
    IndexMismatchError,
    InputError,
    MissingDependencyError,
    ModelError,
    ModelLoadError,
    VideoError,
    VideoOpenError,
)
from hybrid.frames.source import DecoderName, open_source
from hybrid.gens.scorer import FeatureScorer, FrameScorer
from hybrid.presets import DEFAULT_PRESET, PRESETS, encoder_of, sampler_of
from hybrid.progress import NullProgress, Progress
from hybrid.runtime import choose_device, choose_dtype, dtype_name
from hybrid.spans import DEFAULT_MIN_SCORE
from hybrid.values import (
    DEFAULT_FRAMES,
    DEFAULT_SEGMENTS,
    DEFAULT_WINDOW,
    Answer,
    ByteArray,
    SamplingPolicy,
    SearchResult,
    Stage,
)
from indexes.archive import Archive
from indexes.base import BackendName
from indexes.manifest import IndexConfig, Manifest, differences

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hybrid.scorers.interface import VideoScorer
    from indexes.approximate_build import ApproximateUpdate

__all__ = ["Engine"]

LOCK_SECONDS = 600.0
"""How long to wait for another process that indexes the same video."""

QUESTIONS_AT_ONCE = 64
"""How many questions GenS gets together: twice what it writes at once, so that it never waits, and
few enough that what is lost to an interruption is small."""


class _Ready(NamedTuple):
    """An indexed video that can be asked."""

    manifest: Manifest
    path: Path
    gone: str | None
    stage: Stage


class _Found(NamedTuple):
    """What a caller means by a video: its index, if there is one, and where it lies."""

    manifest: Manifest | None
    path: Path
    gone: str | None
    """Why it cannot be read any more, if it cannot."""


class Engine:
    """An archive of indexed videos and the models that answer questions about them.

    Models are loaded when they are first needed. Not safe for several threads at once.
    """

    def __init__(
        self,
        archive: Archive,
        settings: Settings,
        *,
        encoder: FrameEncoder | None = None,
        scorer: FrameScorer | None = None,
    ) -> None:
        """Most callers use :meth:`open`. ``encoder`` and ``scorer`` go before what settings name."""
        self.archive = archive
        self.settings = settings
        self._encoder = encoder
        self._encoder_is_given = encoder is not None
        self._scorer = scorer
        self._scorer_is_given = scorer is not None
        self._scorer_failure: str | None = None
        self._video_scorer: tuple[str, VideoScorer] | None = None

    @classmethod
    def open(
        cls,
        archive: str | Path,
        *,
        preset: str = DEFAULT_PRESET,
        encoder: str | None = None,
        sampler: str | None = None,
        backend: BackendName | None = None,
        rate: float | None = None,
        sampling: SamplingPolicy | None = None,
        decoder: DecoderName | None = None,
        device: str = "auto",
        dtype: str = "auto",
        prompt: str | Path | None = None,
        batch_size: int | None = None,
        loading: str | None = None,
        constrained: bool = False,
    ) -> Engine:
        """Open an archive, or make one.

        Args:
            archive: its folder, or the URI of a remote one; made if it is not there.
            preset: names the models: ``gens-3b``, ``gens-aria`` or ``tiny``.
            encoder: a CLIP encoder instead of the preset's (``ARCHITECTURE/TAG``, ``local-dir:FOLDER``).
            sampler: a GenS checkpoint instead of the preset's (hub name or folder).
            backend: ``faiss`` or ``lancedb`` for a new archive (``faiss`` if not said).
            rate: samples per second (1 if not said).
            sampling: ``exact`` (if not said) or ``keyframes``.
            decoder: ``pyav`` (if not said) or ``decord``.
            device: ``auto``, ``cpu``, ``cuda`` ...
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            prompt: file with a PromptSpec.
            batch_size: frames that CLIP encodes at once; by default what suits the device.
            loading: how a large GenS is loaded: ``4bit``, ``offload`` ... (see
                :func:`hybrid.gens.aria.placement.read_loading`).
            constrained: GenS can only write replies of its own form, which are always valid.

        Raises:
            InputError: a value is not legal.
            ArchiveFormatError: the folder is something else, or of another backend.
        """
        spec = None
        if prompt is not None:
            from hybrid.gens.prompt import read_prompt_file

            spec = read_prompt_file(Path(prompt))
        settings = Settings(
            preset=preset,
            encoder=encoder,
            sampler=sampler,
            rate=rate,
            policy=sampling,
            decoder=decoder,
            device=device,
            dtype=dtype,
            prompt=spec,
            batch_size=batch_size,
            loading=loading,
            constrained=constrained,
        )
        settings.check()
        return cls(Archive.open(archive, backend=backend), settings)

    def index(
        self,
        video: str | Path,
        *,
        features: bool | None = None,
        progress: Progress | None = None,
        lock_seconds: float = LOCK_SECONDS,
    ) -> IndexResult:
        """Index a video; if its index is there already, with this configuration, do nothing.

        An index of another configuration is replaced. Rate, policy, decoder and precision that the
        caller did not say stay as they are.

        Args:
            video: a file, or a folder of numbered images.
            features: whether GenS's vision tower runs now, from the same decoding, so that questions
                need neither the video nor the tower. By default if the caller named a sampler (or
                gave one): a preset's alone is not loaded just to index. Said as True, that it cannot
                be done is an error; by default it is a note, and the first question does its part.
            progress: is told how far it is.
            lock_seconds: how long to wait for another process that writes this video.

        Raises:
            VideoError: the video cannot be opened or decoded.
            ModelError: the encoder cannot be loaded, or runs out of memory; or GenS, if ``features``.
            ArchiveError: the archive cannot be written, or another process holds it.
        """
        path = Path(video)
        told = progress or NullProgress()
        told.start(str(path))
        told.stage("hash")
        video_id = self._identify(path)
        told.stage("load")
        with self.archive.lock(video_id, timeout=lock_seconds):
            stored = self._stored(video_id)
            encoder = self._encoder_for(stored)
            wanted = wanted_config(self.settings, encoder.identity, kind=_kind(path), stored=stored)
            current = self.archive.up_to_date(video_id, wanted)
            if current is not None:
                # The video may have been moved: it is found by its content, but people read the path.
                self.archive.note_source(video_id, place_of(path))
                result = self._add_features(unchanged(str(path), current), current, path, features, told)
                told.finish("unchanged")
                return result
            encoder = self._encoder_for(None)
            wanted = wanted.model_copy(update={"encoder": dict(encoder.identity)})
            changed = tuple(differences(stored.config, wanted)) if stored is not None else ()
            scorer, why_not = self._scorer_for_features(features)
            with ExitStack() as stack:
                tap = None
                if scorer is not None:
                    tower = stack.enter_context(Tower(scorer))
                    spool = stack.enter_context(self.archive.feature_spool(video_id, tower.spec))
                    tap = FeatureTap(tower, spool, must=features is True)
                result = index_video(
                    self.archive, video_id, path, encoder, wanted, progress=told, changed=changed, features=tap
                )
        told.finish("indexed")
        return replace(result, features_note=result.features_note or why_not)

    def ask(
        self,
        video: str | Path,
        question: str,
        *,
        frames: int = DEFAULT_FRAMES,
        window: int = DEFAULT_WINDOW,
        window_mode: WindowMode = "scattered",
        segments: int = DEFAULT_SEGMENTS,
        coarse: bool = True,
        fine: bool = True,
        features: bool = True,
        strict: bool = False,
        min_score: int = DEFAULT_MIN_SCORE,
        gap_seconds: float | None = None,
        select: str | None = None,
        scores: str | None = None,
        seed: int = 0,
        on_spans: OnSpans | None = None,
        progress: Progress | None = None,
    ) -> Answer:
        """Answer a question; the video is indexed first if it is not yet.

        Args:
            video: a file or folder; or, if it is not at hand, the path or content id under which
                the archive knows it (GenS then runs only if its features are stored).
            question: plain text.
            frames: how many frames to select at most.
            window: how many frames GenS reads at once, and how many the coarse stage passes on.
            window_mode: ``scattered``: GenS reads the most similar frames, wherever they lie;
                ``segments``: the segments of the video that are most similar.
            segments: how many segments it reads, in that mode.
            coarse: False: GenS reads the whole video in consecutive windows.
            fine: False: no GenS; the most similar frames are the answer.
            features: False: GenS's features of frames are neither taken from the archive nor kept.
            strict: a stage that cannot do what it was asked to is an error.
            min_score: least GenS score (1 to 5) of a frame that belongs to a span.
            gap_seconds: how far apart two stretches may lie and still be one span; by default one
                sampling interval.
            select: name of a selector (``hybrid selectors``) that chooses the frames, by GenS's scores, or
                without GenS by similarity; by default those with the best scores.
            scores: what the selector goes by instead: ``clip``, ``gens``, or a model of its own such as
                ``blip-itm:CHECKPOINT``, which then sees every frame of the video (see
                :mod:`hybrid.scorers.registry`).
            seed: for selectors that draw.
            on_spans: is told of spans as GenS finds them; what it raises ends the asking.
            progress: is told how far it is, if the video has to be indexed.

        Raises:
            InputError: a value is not legal, or the question is empty.
            IndexMismatchError: the index was made with another configuration.
            StageFailedError: ``strict``, and a stage did not do what it was asked to.
            VideoError, ModelError, ArchiveError: as :meth:`index`.
        """
        return self.ask_many(
            video,
            [question],
            on_spans=on_spans,
            progress=progress,
            frames=frames,
            window=window,
            window_mode=window_mode,
            segments=segments,
            coarse=coarse,
            fine=fine,
            features=features,
            strict=strict,
            min_score=min_score,
            gap_seconds=gap_seconds,
            select=select,
            scores=scores,
            seed=seed,
        )[0]

    def ask_many(
        self,
        video: str | Path,
        questions: Sequence[str],
        *,
        on_answer: Callable[[int, Answer], None] | None = None,
        on_spans: OnSpans | None = None,
        progress: Progress | None = None,
        **options: Unpack[AskKeywords],
    ) -> list[Answer]:
        """Answer many questions to one video: those of :meth:`ask`, one by one, in far less time.

        GenS gets the questions together. What it reads of a window is read once for all that share
        it, and replies are written side by side.

        Args:
            video: as in :meth:`ask`.
            questions: plain text.
            on_answer: is given each answer as soon as it is final, with the place of its question.
            on_spans: is told of spans as GenS finds them; ``question`` is the place.
            progress: as in :meth:`ask`.
            options: as in :meth:`ask`.

        Returns:
            One answer a question, in order.

        Raises:
            As :meth:`ask`; what was given to ``on_answer`` before stays true.
        """
        asked = AskOptions(**options)
        check_questions(questions)
        if not questions:
            return []
        ready = self._ready(Path(video), progress)
        timeline = self.archive.timeline(ready.manifest)
        models = Models(
            encoder=lambda: self._checked_encoder(ready.manifest, ready.path),
            scorer=self._loaded_scorer,
            video_scorer=lambda: self._loaded_video_scorer(asked.scores or ""),
            sampler_name=self._sampler_name(),
        )
        answers: list[Answer] = []
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            works = [
                Work(self.archive, ready.manifest, timeline, ready.path, question, asked, ready.gone)
                for question in questions[start : start + QUESTIONS_AT_ONCE]
            ]
            for place, work in enumerate(works, start=start):
                work.record(ready.stage if place == 0 else _found_before(ready.stage))
            listener = None if on_spans is None else _shifted(on_spans, start)
            try:
                answers += answer_questions(works, models, on_spans=listener)
            except ListenerError as exc:
                raise exc.error from None
            if on_answer is not None:
                for place, answer in enumerate(answers[start:], start=start):
                    on_answer(place, answer)
        return answers

    def configuration(
        self, video: str | Path, *, progress: Progress | None = None, **options: Unpack[AskKeywords]
    ) -> dict[str, Any]:
        """Everything that decides the answers to questions about a video, ready for ``json.dumps``.

        Two equal ones give equal answers, as far as checkpoints are known by their names. The video
        is indexed if it is not yet.

        Args:
            video, progress, options: as in :meth:`ask`.

        Raises:
            As :meth:`index`, and IndexMismatchError.
        """
        asked = AskOptions(**options)
        manifest = self._ready(Path(video), progress).manifest
        settings = self.settings
        return {
            "video_id": manifest.video_id,
            "index": manifest.fingerprint,
            "sampler": self._sampler_name(),
            "prompt": None if settings.prompt is None else settings.prompt.digest,
            "device": settings.device,
            "dtype": settings.dtype,
            "loading": settings.loading,
            "constrained": settings.constrained,
            "options": asdict(asked),
        }

    def search(
        self,
        question: str,
        *,
        top: int = DEFAULT_FRAMES,
        fine: int = 0,
        videos: Sequence[str | Path] = (),
        under: Sequence[str | Path] = (),
        since: datetime | None = None,
        strict: bool = False,
        threads: int | None = None,
        exact: bool = False,
        ask: AskKeywords | None = None,
    ) -> SearchResult:
        """Search the whole archive, or some of its videos.

        Args:
            question: plain text.
            top: how many frames over all videos, at most.
            fine: GenS is asked about so many of the best videos.
            videos: only these, by path or content id.
            under: only videos that lie below one of these folders.
            since: only videos that were indexed at or after this time (with a time zone).
            strict: what could not be done as asked, and a video that cannot be searched, is an error.
            threads: how many cores search; by default all, up to eight.
            exact: compare every frame, even where the archive has an approximate index.
            ask: options of the questions to the best videos, as in :meth:`ask`.

        Raises:
            See :func:`hybrid.engine.searching.search_archive`.
        """
        names, folders = tuple(map(str, videos)), tuple(map(str, under))
        wanted = SearchOptions(top, fine, names, folders, since, threads, strict, exact)
        options: AskKeywords = {**(ask or {}), "strict": strict, "fine": True}
        AskOptions(**options)  # before any work
        models = SearchModels(
            encoder=self._encoder_for,
            changes=self._encoder_changes,
            ask=lambda video_id: self.ask(video_id, question, **options),
            sampler_name=self._sampler_name(),
        )
        return search_archive(self.archive, question, wanted, models)

    def refresh_approximate(self, *, from_frames: int | None = None) -> list[ApproximateUpdate]:
        """Bring the archive's approximate index up to date, or make one where the archive is large enough.

        Args:
            from_frames: from so many frames of one dimension on (:data:`indexes.approximate_build.FROM_FRAMES`).

        Raises:
            See :func:`hybrid.engine.approximate.refresh_approximate`.
        """
        from hybrid.engine.approximate import refresh_approximate

        return refresh_approximate(self.archive, self._encoder_for, self._encoder_changes, from_frames=from_frames)

    def drop_features(self, video: str | Path) -> int:
        """Delete GenS's stored features of a video; how many bytes they took. Its index stays.

        Args:
            video: a file or folder, or the path or content id under which the archive knows it.

        Raises:
            VideoNotIndexedError: the archive does not know the video.
            VideoError: there is no such path.
            ArchiveError: the archive cannot be written, or another process holds it.
        """
        manifest, path, _ = self._find(Path(video))
        return self.archive.drop_features((manifest or self.archive.require(self._identify(path))).video_id)

    def read_frames(self, video: str | Path, ordinals: Sequence[int]) -> Iterator[tuple[int, ByteArray]]:
        """Decode some sampled frames of an indexed video, at their full size.

        Args:
            video: the file or folder.
            ordinals: increasing, as in ``answer.frames``.

        Yields:
            (ordinal, uint8 [H, W, 3] RGB); a frame that cannot be decoded is left out.

        Raises:
            VideoNotIndexedError: the archive does not know the video.
            VideoError: it cannot be opened or decoded.
        """
        manifest, path, gone = self._find(Path(video))
        if gone is not None:
            raise VideoOpenError(gone)
        if manifest is None:
            manifest = self.archive.require(self._identify(path))
        with open_source(
            path, self.archive.timeline(manifest).sampling, decoder=file_decoder(manifest.config)
        ) as source:
            for batch in source.read(ordinals=ordinals):
                for i in range(len(batch)):
                    yield int(batch.ordinals[i]), batch.rgb[i]

    def close(self) -> None:
        """Let go of the archive's files."""
        self.archive.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _identify(self, path: Path) -> str:
        if not path.exists():
            raise VideoOpenError(f"{path}: there is no such file or folder")
        return self.archive.identify(path)

    def _find(self, path: Path) -> _Found:
        """What is indexed of the video that ``path`` names, and where the video lies.

        A path that is not there may still be known to the archive: as the place that the video
        had, or as a content id (then the place that the video had is where it is looked for).
        """
        if path.exists():
            return _Found(self._stored(self._identify(path)), path, None)
        for manifest in self.archive.manifests():
            if str(path) == manifest.video_id or str(path.absolute()) == manifest.source.path:
                place = Path(manifest.source.path)
                gone = None
                if not place.exists():
                    gone = f"{place} does not exist any more"
                elif self._identify(place) != manifest.video_id:
                    gone = f"another video lies at {place} now"
                return _Found(manifest, place, gone)
        raise VideoOpenError(f"{path}: there is no such file or folder, and {self.archive.place} does not know it")

    def _ready(self, video: Path, progress: Progress | None) -> _Ready:
        """The video's index, made now if there is none."""
        started = time.perf_counter()
        manifest, path, gone = self._find(video)
        result = None
        if manifest is None:
            # The question's own frames come first; the rest of the features can wait for an index run.
            result = self.index(path, features=False, progress=progress)
            manifest = self.archive.require(result.video_id)
        self._check_sampling(manifest, path)
        stage = self._index_stage(manifest, result, time.perf_counter() - started)
        return _Ready(manifest, path, gone, stage)

    def _add_features(
        self, result: IndexResult, manifest: Manifest, path: Path, features: bool | None, told: Progress
    ) -> IndexResult:
        """Make what an index that is up to date lacks of features."""
        if features is None and self._has_features(manifest):
            return result  # whose they are shows when they are used; a model is not loaded to look
        scorer, why_not = self._scorer_for_features(features)
        if scorer is None:
            return replace(result, features_note=why_not)
        started = time.perf_counter()
        try:
            count = fill_features(self.archive, manifest, path, scorer, progress=told)
        except (ModelError, VideoError) as exc:
            if features:
                raise
            return replace(result, features_note=f"features were not made: {exc}")
        seconds = {**result.seconds, "features": time.perf_counter() - started} if count else result.seconds
        return replace(result, features=count, seconds=seconds)

    def _has_features(self, manifest: Manifest) -> bool:
        lists = self.archive.feature_lists(manifest)
        timeline = self.archive.timeline(manifest) if lists else None
        return timeline is not None and any(is_complete(listed.present, timeline) for listed in lists)

    def _scorer_for_features(self, features: bool | None) -> tuple[FeatureScorer | None, str | None]:
        """The scorer whose features are to be made at index time, or None; and why not, where that is news.

        Raises:
            HybridError: they were asked for, and cannot be made.
        """
        named = self.settings.sampler is not None or self._scorer_is_given
        if not (named if features is None else features):
            return None, None
        try:
            with gens_errors():
                scorer = self._loaded_scorer()
        except (ModelError, MissingDependencyError) as exc:
            if features:
                raise
            return None, f"features were not made: {exc}"
        why_not = why_not_kept(scorer)
        if isinstance(scorer, FeatureScorer) and why_not is None:
            return scorer, None
        if features:
            raise InputError(f"features cannot be stored: {why_not}; leave out --features")
        return None, f"features were not made: {why_not}"

    def _index_stage(self, manifest: Manifest, result: IndexResult | None, seconds: float) -> Stage:
        encoder = manifest.config.encoder
        notes = [f"indexed now: {manifest.frames} frames in {seconds:.1f} s"] if result is not None else []
        return Stage(
            name="index",
            ran=result is not None,
            seconds=seconds,
            model="/".join(str(encoder[key]) for key in ("model", "pretrained") if encoder.get(key)),
            device=self._encoder.device if result is not None and self._encoder is not None else None,
            candidates_out=manifest.frames,
            notes=(*notes, *([manifest.note] if manifest.note else [])),
            details={
                "outcome": "found" if result is None else result.outcome,
                "status": manifest.status,
                "backend": self.archive.backend,
                "fingerprint": manifest.fingerprint,
                "seconds": dict(result.seconds) if result is not None else {},
            },
        )

    def _stored(self, video_id: str) -> Manifest | None:
        """The manifest that is there; a damaged one counts as none, so that indexing mends it."""
        try:
            return self.archive.manifest(video_id)
        except IndexDamagedError:
            return None

    def _encoder_for(self, stored: Manifest | None) -> FrameEncoder:
        """The encoder, in the precision of the stored index if the caller did not say another."""
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
            self.settings.encoder or encoder_of(self.settings.preset),
            device=self.settings.device,
            dtype=dtype,
            batch_size=self.settings.batch_size,
        )
        return self._encoder

    def _check_sampling(self, manifest: Manifest, path: Path) -> None:
        """Refuse an index of another rate, policy or decoder than the caller said; no model is needed for it."""
        kind, identity = manifest.video.kind, manifest.config.encoder
        self._check(manifest, path, wanted_config(self.settings, identity, kind=kind, stored=manifest))

    def _checked_encoder(self, manifest: Manifest, path: Path) -> FrameEncoder:
        """The encoder of the index; refused if it is another than the caller's."""
        encoder = self._encoder_for(manifest)
        kind, identity = manifest.video.kind, encoder.identity
        self._check(manifest, path, wanted_config(self.settings, identity, kind=kind, stored=manifest))
        return encoder

    def _encoder_changes(self, encoder: FrameEncoder, manifest: Manifest) -> list[str]:
        """What sets the encoder of a video's index apart from this one."""
        kind = manifest.video.kind
        wanted = wanted_config(self.settings, encoder.identity, kind=kind, stored=manifest)
        return [line for line in differences(manifest.config, wanted) if line.startswith("encoder.")]

    def _check(self, manifest: Manifest, path: Path, wanted: IndexConfig) -> None:
        changes = differences(manifest.config, wanted)
        if not changes:
            return
        command = ["hybrid", "index", str(path), "--archive", self.archive.place]
        command += ["--preset", self.settings.preset, "--rate", f"{wanted.rate:g}", "--sampling", wanted.policy]
        command += ["--encoder", self.settings.encoder] if self.settings.encoder else []
        command += ["--decoder", wanted.decoder] if wanted.decoder == "decord" else []
        command += ["--dtype", self.settings.dtype] if self.settings.dtype != "auto" else []
        raise IndexMismatchError(
            f"the index of {path} was made with another configuration ({'; '.join(changes)}); ask with the one it was "
            f"made with, or make it anew: {shlex.join(command)}"
        )

    def _sampler_name(self) -> str:
        """For the record where it is not loaded; the tiny one is not made for that."""
        if self._scorer is not None:
            return self._scorer.name
        return self.settings.sampler or PRESETS[self.settings.preset].sampler

    def _loaded_scorer(self) -> FrameScorer:
        if self._scorer_failure is not None:
            # A hub that did not answer a minute ago is not asked again for every question. Only the
            # text is kept: the error itself would hold on to what was loaded until then.
            raise ModelLoadError(self._scorer_failure)
        if self._scorer is None:
            from hybrid.gens.load import load_scorer
            from hybrid.gens.loop.options import LoopOptions

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

    def _loaded_video_scorer(self, scores: str) -> VideoScorer:
        """The scorer of that name; the last one is kept."""
        if self._video_scorer is None or self._video_scorer[0] != scores:
            from hybrid.scorers.registry import load_video_scorer

            self._video_scorer = None  # two large models need not be held at once
            loaded = load_video_scorer(scores, device=self.settings.device, dtype=self.settings.dtype)
            self._video_scorer = (scores, loaded)
        return self._video_scorer[1]


def _kind(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def _found_before(stage: Stage) -> Stage:
    """The record of an index for the further questions of one call."""
    details = {**stage.details, "outcome": "found", "seconds": {}}
    return replace(
        stage, ran=False, seconds=0.0, device=None, notes=stage.notes[1:] if stage.ran else stage.notes, details=details
    )


def _shifted(on_spans: OnSpans, start: int) -> OnSpans:
    """The listener of a group of questions: counts them from the first of all."""
    return lambda update: on_spans(replace(update, question=update.question + start))

"""Engine: index a video, ask about it. Three lines are enough::

engine = Engine.open("archive/", preset="gens-3b")
engine.index("talk.mp4")
answer = engine.ask("talk.mp4", "When is the diagram drawn?", frames=32)
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid.clip.encoder import FrameEncoder, load_encoder
from hybrid.engine.asking import answer_question
from hybrid.engine.indexing import IndexResult, index_video, place_of, unchanged
from hybrid.engine.settings import Settings, file_decoder, wanted_config
from hybrid.engine.work import AskOptions
from hybrid.errors import IndexDamagedError, IndexMismatchError, ModelLoadError, VideoOpenError
from hybrid.frames.source import DecoderName, open_source
from hybrid.gens.scorer import FrameScorer
from hybrid.presets import DEFAULT_PRESET, PRESETS, encoder_of, sampler_of
from hybrid.progress import NullProgress, Progress
from hybrid.runtime import choose_device, choose_dtype, dtype_name
from hybrid.spans import DEFAULT_MIN_SCORE
from hybrid.values import DEFAULT_FRAMES, DEFAULT_WINDOW, Answer, ByteArray, SamplingPolicy, Stage
from indexes.archive import Archive
from indexes.base import BackendName
from indexes.manifest import IndexConfig, Manifest, differences

__all__ = ["Engine"]

LOCK_SECONDS = 600.0
"""How long to wait for another process that indexes the same video."""


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
        self._scorer_failure: str | None = None

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
    ) -> Engine:
        """Open an archive, or make one.

        Args:
            archive: its folder; made if it is not there.
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
        )
        settings.check()
        return cls(Archive.open(Path(archive), backend=backend), settings)

    def index(self, video: str | Path, *, progress: Progress | None = None) -> IndexResult:
        """Index a video; if its index is there already, with this configuration, do nothing.

        An index of another configuration is replaced. Rate, policy, decoder and precision that the
        caller did not say stay as they are.

        Args:
            video: a file, or a folder of numbered images.
            progress: is told how far it is.

        Raises:
            VideoError: the video cannot be opened or decoded.
            ModelError: the encoder cannot be loaded, or runs out of memory.
            ArchiveError: the archive cannot be written, or another process holds it.
        """
        path = Path(video)
        told = progress or NullProgress()
        told.start(str(path))
        told.stage("hash")
        video_id = self._identify(path)
        told.stage("load")
        with self.archive.lock(video_id, timeout=LOCK_SECONDS):
            stored = self._stored(video_id)
            encoder = self._encoder_for(stored)
            wanted = wanted_config(self.settings, encoder.identity, kind=_kind(path), stored=stored)
            current = self.archive.up_to_date(video_id, wanted)
            if current is not None:
                # The video may have been moved: it is found by its content, but people read the path.
                self.archive.note_source(video_id, place_of(path))
                told.finish("unchanged")
                return unchanged(str(path), current)
            encoder = self._encoder_for(None)
            wanted = wanted.model_copy(update={"encoder": dict(encoder.identity)})
            changed = tuple(differences(stored.config, wanted)) if stored is not None else ()
            result = index_video(self.archive, video_id, path, encoder, wanted, progress=told, changed=changed)
        told.finish("indexed")
        return result

    def ask(
        self,
        video: str | Path,
        question: str,
        *,
        frames: int = DEFAULT_FRAMES,
        window: int = DEFAULT_WINDOW,
        coarse: bool = True,
        fine: bool = True,
        strict: bool = False,
        min_score: int = DEFAULT_MIN_SCORE,
        gap_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Answer:
        """Answer a question; the video is indexed first if it is not yet.

        Args:
            video: a file or folder; or, if it is not at hand, the path or content id under which
                the archive knows it (the fine stage, which reads frames, then cannot run).
            question: plain text.
            frames: how many frames to select at most.
            window: how many frames GenS reads at once, and how many the coarse stage passes on.
            coarse: False: GenS reads the whole video in consecutive windows.
            fine: False: no GenS; the most similar frames are the answer.
            strict: a stage that cannot do what it was asked to is an error.
            min_score: least GenS score (1 to 5) of a frame that belongs to a span.
            gap_seconds: how far apart two stretches may lie and still be one span; by default one
                sampling interval.
            progress: is told how far it is, if the video has to be indexed.

        Raises:
            InputError: a value is not legal, or the question is empty.
            IndexMismatchError: the index was made with another configuration.
            StageFailedError: ``strict``, and a stage did not do what it was asked to.
            VideoError, ModelError, ArchiveError: as :meth:`index`.
        """
        options = AskOptions(
            frames=frames,
            window=window,
            coarse=coarse,
            fine=fine,
            strict=strict,
            min_score=min_score,
            gap_seconds=gap_seconds,
        )
        started = time.perf_counter()
        manifest, path, gone = self._find(Path(video))
        result = None
        if manifest is None:
            result = self.index(path, progress=progress)
            manifest = self.archive.require(result.video_id)
        self._check_sampling(manifest, path)
        stage = self._index_stage(manifest, result, time.perf_counter() - started)
        return answer_question(
            self.archive,
            manifest,
            path,
            question,
            options,
            encoder=lambda: self._checked_encoder(manifest, path),
            scorer=self._loaded_scorer,
            sampler_name=self._sampler_name(),
            gone=gone,
            stages=(stage,),
        )

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
        raise VideoOpenError(f"{path}: there is no such file or folder, and {self.archive.folder} does not know it")

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

    def _check(self, manifest: Manifest, path: Path, wanted: IndexConfig) -> None:
        changes = differences(manifest.config, wanted)
        if not changes:
            return
        command = ["hybrid", "index", str(path), "--archive", str(self.archive.folder)]
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

            try:
                self._scorer = load_scorer(
                    self.settings.sampler or sampler_of(self.settings.preset),
                    device=self.settings.device,
                    dtype=self.settings.dtype,
                    prompt=self.settings.prompt,
                )
            except ModelLoadError as exc:
                self._scorer_failure = str(exc)
                raise
        return self._scorer


def _kind(path: Path) -> str:
    return "folder" if path.is_dir() else "file"

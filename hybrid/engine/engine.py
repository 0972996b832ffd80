"""Engine: index a video, ask about it. Three lines are enough::

engine = Engine.open("archive/", preset="gens-3b")
engine.index("talk.mp4")
answer = engine.ask("talk.mp4", "When is the diagram drawn?", frames=32)

This is the face only: each method says what it promises, and hands over to the module that does it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.answers import Answer, SearchResult
from hybrid.clip.interface import FrameEncoder
from hybrid.engine.ask.answers import answer_questions
from hybrid.engine.ask.events import Answered, AskEvent
from hybrid.engine.ask.video import ResolvedVideo, models_for, resolve_video
from hybrid.engine.checking import encoder_changes, name_changes
from hybrid.engine.frames.decode_ahead import VideoPrefetcher
from hybrid.engine.index.indexing import IndexResult, end_failure
from hybrid.engine.index.updating import update_index
from hybrid.engine.models import ModelPool
from hybrid.engine.search.searching import search_archive
from hybrid.engine.search.work import SearchModels
from hybrid.engine.settings import configuration_of
from hybrid.engine.videos import find_video, manifest_of, read_frames
from hybrid.errors import InputError
from hybrid.fine.interface import FineModel
from hybrid.options.ask import AskOptions
from hybrid.options.engine import EngineOptions
from hybrid.options.index import IndexOptions
from hybrid.options.search import SearchOptions
from hybrid.progress import NullProgress, Progress
from hybrid.values import ByteArray, check_questions
from indexes.archive.writer import Archive
from indexes.open_archive import open_archive

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hybrid.options.keywords import AskKeywords, EngineKeywords, IndexKeywords, SearchKeywords
    from hybrid.scorers.interface import VideoScorer
    from indexes.maintenance.build_ann import ApproximateUpdate

__all__ = ["Engine"]


class Engine:
    """An archive of indexed videos and the models that answer questions about them.

    Models are loaded when they are first needed. Several threads may ask at a time; indexing is for one at a time.
    """

    def __init__(
        self,
        archive: Archive,
        settings: EngineOptions,
        *,
        encoder: FrameEncoder | None = None,
        fine_model: FineModel | None = None,
        video_scorers: Mapping[str, VideoScorer] | None = None,
    ) -> None:
        """Most callers use :meth:`open`. ``encoder`` and ``fine_model`` go before what settings name.

        ``video_scorers`` are held by the text that names them in ``scores``; others are loaded when they are needed.
        """
        self.archive = archive
        self._models = ModelPool(settings, encoder=encoder, fine_model=fine_model, video_scorers=video_scorers)
        self._prefetcher = VideoPrefetcher(archive, settings)

    @property
    def settings(self) -> EngineOptions:
        """What the engine works with."""
        return self._models.settings

    @classmethod
    def open(
        cls,
        archive: str | Path,
        options: EngineOptions | None = None,
        *,
        backend: str | None = None,
        create: bool = True,
        **keywords: Unpack[EngineKeywords],
    ) -> Engine:
        """Open an archive, or make one.

        Args:
            archive: its folder, or the URI of a remote one; made if it is not there.
            options: with which models and how: :class:`hybrid.options.engine.EngineOptions`.
            backend: ``faiss`` or ``lancedb`` for a new archive; default: ``faiss``.
            create: make an archive that is not there.
            keywords: the fields of ``options``, instead of it or to change some of it.

        Raises:
            InputError: a value is not legal.
            ArchiveFormatError: the folder is something else, or of another backend, or there is none and
                ``create`` is off.
        """
        chosen = EngineOptions.of(options, keywords)
        return cls(open_archive(archive, backend=backend, create=create), chosen)

    def index(
        self,
        video: str | Path,
        options: IndexOptions | None = None,
        *,
        following: Sequence[str | Path] = (),
        progress: Progress | None = None,
        **keywords: Unpack[IndexKeywords],
    ) -> IndexResult:
        """Index a video; if its index is there already, with this configuration, do nothing.

        An index of another configuration is replaced. Rate, policy, decoder and precision that the
        caller did not set stay as they are.

        Args:
            video: a file, or a folder of numbered images.
            options: how: :class:`hybrid.options.index.IndexOptions`. With ``features`` GenS's vision encoder runs now,
                from the same decoding, so that questions need neither the video nor the encoder. By default it runs
                if the caller named a sampler (or gave one): a preset's alone is not loaded just to index. Where it
                cannot run, ``features=True`` is an error; by default that is a note, and the first question does it.
            following: the videos that will be indexed next, in order: their decoding begins when this one's
                has ended, while frames of this one are still embedded. Only a hint; three are enough.
            progress: receives how far it is.
            keywords: the fields of ``options``, instead of it or to change some of it.

        Raises:
            VideoError: the video cannot be opened or decoded.
            ModelError: the encoder cannot be loaded, or runs out of memory; or GenS, if ``features``.
            ArchiveError: the archive cannot be written, or another process holds it.
        """
        chosen = IndexOptions.of(options, keywords)
        return update_index(
            self.archive,
            self._models,
            Path(video),
            prefetcher=self._prefetcher,
            following=[Path(each) for each in following],
            features=chosen.features,
            progress=progress or NullProgress(),
            lock_seconds=chosen.lock_seconds,
        )

    def ask(
        self,
        video: str | Path,
        question: str,
        options: AskOptions | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Unpack[AskKeywords],
    ) -> Answer:
        """Answer a question; the video is indexed first if it is not yet.

        Args:
            video: a file or folder; or, if it is missing now, the path or content id under which the archive knows it
                (GenS then runs only if its features are stored).
            question: plain text.
            options: how it is answered: :class:`hybrid.options.ask.AskOptions`.
            progress: receives how far indexing is, if the video has to be indexed.
            keywords: the fields of ``options``, instead of it or to change some of it.

        Raises:
            InputError: a value is not legal, or decides nothing beside the others (``context_seconds`` without
                ``window_mode="context"``), or the question is not.
            IndexMismatchError: the index was made with another configuration.
            StageFailedError: ``strict``, and a stage did not do what it was asked to.
            VideoError, ModelError, ArchiveError: as :meth:`index`.
        """
        return self.ask_many(video, [question], options, progress=progress, **keywords)[0]

    def ask_many(
        self,
        video: str | Path,
        questions: Sequence[str],
        options: AskOptions | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Unpack[AskKeywords],
    ) -> list[Answer]:
        """Answer many questions about one video: those of :meth:`ask`, one by one, in far less time.

        GenS gets the questions together. What it reads of a window is read once for all that share it, and replies
        are written side by side.

        Args:
            video, options, progress, keywords: as in :meth:`ask`.
            questions: plain text.

        Returns:
            One answer a question, in order.

        Raises:
            As :meth:`ask`.
        """
        answers: dict[int, Answer] = {}
        for event in self.stream(video, questions, options, progress=progress, **keywords):
            assert isinstance(event, Answered)  # spans are not asked for
            answers[event.question] = event.answer
        return [answers[index] for index in range(len(questions))]

    def stream(
        self,
        video: str | Path,
        questions: Sequence[str],
        options: AskOptions | None = None,
        *,
        spans: bool = False,
        progress: Progress | None = None,
        **keywords: Unpack[AskKeywords],
    ) -> Generator[AskEvent, None, None]:
        """Answer questions as :meth:`ask_many`, and give each answer as soon as it is complete.

        Close the generator, or stop iterating, to cancel what is not finished. Nothing is locked between two events:
        other threads, and the caller itself, may ask meanwhile.

        Args:
            video, questions, options, progress, keywords: as in :meth:`ask_many`.
            spans: also give spans as GenS finds them.

        Yields:
            Events, with the index of their question: one :class:`~hybrid.engine.ask.events.Answered` each, in
            whatever order replies end; with ``spans`` any number of
            :class:`~hybrid.engine.ask.events.SpansChanged` before it.

        Raises:
            As :meth:`ask`.
        """
        chosen = AskOptions.of(options, keywords)
        if spans and not chosen.fine:
            raise InputError("spans (--stream) come from GenS, and the fine stage is left out; leave out one of both")
        check_questions(questions)
        return self._stream(Path(video), questions, chosen, spans=spans, progress=progress)

    def _stream(
        self, path: Path, questions: Sequence[str], options: AskOptions, *, spans: bool, progress: Progress | None
    ) -> Generator[AskEvent, None, None]:
        if not questions:
            return
        video = self._resolve(path, progress)
        yield from answer_questions(video, questions, options, models_for(video, options, self._models), spans=spans)

    def configuration(
        self,
        video: str | Path,
        options: AskOptions | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Unpack[AskKeywords],
    ) -> dict[str, Any]:
        """Everything that decides the answers to questions about a video, ready for ``json.dumps``.

        Two equal ones give equal answers, as far as checkpoints are known by their names. The video
        is indexed if it is not yet.

        Args:
            video, options, progress, keywords: as in :meth:`ask`.

        Raises:
            As :meth:`index`, and IndexMismatchError.
        """
        chosen = AskOptions.of(options, keywords)
        manifest = self._resolve(Path(video), progress).manifest
        return configuration_of(self.settings, manifest, chosen, sampler_name=self._models.fine_model_name)

    def search(
        self, question: str, options: SearchOptions | None = None, **keywords: Unpack[SearchKeywords]
    ) -> SearchResult:
        """Search the whole archive, or some of its videos.

        Args:
            question: plain text.
            options: how it is searched: :class:`hybrid.options.search.SearchOptions`.
            keywords: the fields of ``options``, instead of it or to change some of it.

        Raises:
            See :func:`hybrid.engine.search.searching.search_archive`.
        """
        chosen = SearchOptions.of(options, keywords)
        models = SearchModels(
            encoder=self._models.encoder_for,
            name_changes=partial(name_changes, self._models.encoder_name),
            changes=partial(encoder_changes, self.settings),
            ask=lambda video_id: self.ask(video_id, question, chosen.questions),
            sampler_name=self._models.fine_model_name,
        )
        return search_archive(self.archive, question, chosen, models)

    def refresh_approximate(self, *, from_frames: int | None = None) -> list[ApproximateUpdate]:
        """Bring the archive's approximate index up to date, or make one where the archive is large enough.

        Args:
            from_frames: from so many frames of one dimension on (:data:`indexes.maintenance.build_ann.FROM_FRAMES`).

        Raises:
            See :func:`hybrid.engine.index.ann.refresh_approximate`.
        """
        from hybrid.engine.index.ann import refresh_approximate

        changes = partial(encoder_changes, self.settings)
        return refresh_approximate(self.archive, self._models.encoder_for, changes, from_frames=from_frames)

    def drop_features(self, video: str | Path) -> int:
        """Delete GenS's stored features of a video; how many bytes they took. Its index stays.

        Args:
            video: a file or folder, or the path or content id under which the archive knows it.

        Raises:
            VideoNotIndexedError: the archive does not know the video.
            VideoError: there is no such path.
            ArchiveError: the archive cannot be written, or another process holds it.
        """
        manifest = manifest_of(self.archive, find_video(self.archive, Path(video)))
        return self.archive.drop_features(manifest.video_id)

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
        return read_frames(self.archive, Path(video), ordinals)

    def close(self) -> None:
        """Let go of the archive's files, and of a video whose decoding was begun."""
        self._prefetcher.close()
        self.archive.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resolve(self, video: Path, progress: Progress | None) -> ResolvedVideo:
        """The video's index, made now if there is none."""

        # The question's own frames come first; the rest of the features can wait for an index run.
        def index(path: Path) -> IndexResult:
            result = self.index(path, features=False, progress=progress)
            end_failure(self.archive, result.video_id, path)
            return result

        return resolve_video(self.archive, self._models, video, index)

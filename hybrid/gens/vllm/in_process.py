"""Writes replies with vLLM in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from hybrid.errors import MissingDependencyError, ModelError, ModelLoadError, first_line
from hybrid.gens.frame_features import FrameFeatures
from hybrid.gens.turns import Turns
from hybrid.gens.vllm.asking import Asking, Written, embeddings_of, grids_of, uuids_of
from hybrid.gens.writer import OnFinished, OnTokens, Reply

__all__ = ["InProcessWriter", "require_vllm"]

_LOG = logging.getLogger(__name__)

_SHARE_OF_FREE = 0.9
"""Of the GPU's free memory, for vLLM; the rest is for the vision tower's work."""
_REMEDY = "this version of vLLM may not be supported (0.33 is), so use --sampler without vllm:"


def require_vllm() -> None:
    """Refuse before anything is loaded.

    Raises:
        MissingDependencyError: the package ``vllm`` is not installed.
    """
    if find_spec("vllm") is None:
        raise MissingDependencyError(
            "vLLM is not installed in this environment: pip install 'hybrid[vllm]', or ask a server: "
            "--sampler vllm:http://HOST:PORT/v1#CHECKPOINT"
        )


class InProcessWriter:
    """A :class:`hybrid.gens.writer.Writer`. vLLM is started by the first question; threads take turns.

    Args:
        folder: the checkpoint.
        asking: how it is asked.
        dtype: of the language model: ``bfloat16`` ...
        batch: how many replies are written at once, at most.
    """

    def __init__(self, folder: Path, asking: Asking, *, dtype: str, batch: int) -> None:
        self._folder, self._asking, self._dtype, self._batch = folder, asking, dtype, batch
        self._turns = Turns()
        self._started: Any = None

    @property
    def device(self) -> str:
        """vLLM chooses its own; the first visible GPU, as a rule."""
        return "vllm"

    def check(self, question: str) -> None:
        """See :meth:`hybrid.gens.writer.Writer.check`."""
        self._asking.tokens.suffix(question)

    def write(
        self,
        features: Sequence[FrameFeatures],
        questions: Sequence[str],
        *,
        on_tokens: OnTokens | None = None,
        on_finished: OnFinished | None = None,
    ) -> list[Reply]:
        """See :meth:`hybrid.gens.writer.Writer.write`; ``on_tokens`` is told of finished replies only.

        ``seconds`` are those since the reply before was finished, so that all add up to the whole.
        """
        pairs = list(zip(features, questions, strict=True))
        if not pairs:
            return []
        started = time.perf_counter()
        images = {window.key: self._images(window) for window in {window.key: window for window in features}.values()}
        prompts = [
            {"prompt_token_ids": self._asking.short_ids(window, question), **images[window.key]}
            for window, question in pairs
        ]
        prepared = time.perf_counter()
        replies: dict[int, Reply] = {}
        with self._turns.take():
            llm = self._llm()
            last = time.perf_counter()
            share = {"prompt": (prepared - started) / len(pairs), "vllm_start": (last - prepared) / len(pairs)}
            with closing(self._generate(llm, prompts, features)) as outputs:
                for place, written in outputs:
                    seconds = {**share, "vllm": time.perf_counter() - last}
                    reply = replies[place] = self._asking.reply(*pairs[place], written, seconds, remedy=_REMEDY)
                    if on_tokens is not None:
                        on_tokens(place, reply.ids, True)
                    if on_finished is not None:
                        on_finished(place, reply)
                    last = time.perf_counter()
        return [replies[place] for place in range(len(pairs))]

    def _images(self, features: FrameFeatures) -> dict[str, Any]:
        """The part of a prompt that holds a window."""
        images = {
            "image_embeds": torch.cat(embeddings_of(features)),
            "image_grid_thw": grids_of(features, self._asking.merge),
        }
        return {"multi_modal_data": {"image": images}, "multi_modal_uuids": {"image": uuids_of(features)}}

    def _sampling(self, features: FrameFeatures) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        asking = self._asking
        pattern = asking.pattern(features)
        return SamplingParams(
            temperature=0.0,
            max_tokens=asking.spec.max_new_tokens,
            repetition_penalty=asking.repetition_penalty,
            stop_token_ids=sorted(asking.end_ids),
            structured_outputs=None if pattern is None else StructuredOutputsParams(regex=pattern),
        )

    def _llm(self) -> Any:
        """vLLM with the checkpoint, without its vision tower."""
        if self._started is None:
            options: dict[str, Any] = {}
            if torch.cuda.is_available():
                # vLLM wants its share of all memory to be free, and some is taken: the tower, CLIP.
                free, total = torch.cuda.mem_get_info(0)
                options["gpu_memory_utilization"] = round(_SHARE_OF_FREE * free / total, 3)
            try:
                from vllm import LLM

                self._started = LLM(
                    model=str(self._folder),
                    dtype=self._dtype,
                    enable_mm_embeds=True,
                    # Embeddings are taken in spite of this; it says that no tower is needed for pixels.
                    limit_mm_per_prompt={"image": 0, "video": 0},
                    max_num_seqs=self._batch,
                    **options,
                )
            except Exception as exc:  # vLLM and all that it starts raise what they like
                raise ModelLoadError(
                    f"vLLM cannot be started with {self._folder}: {first_line(exc)}; try `vllm serve {self._folder} "
                    "--enable-mm-embeds`, which says more, or --sampler without vllm:"
                ) from exc
        return self._started

    def _generate(
        self, llm: Any, prompts: list[dict[str, Any]], features: Sequence[FrameFeatures]
    ) -> Generator[tuple[int, Written], None, None]:
        """Each reply with its place, as vLLM finishes it: what ``LLM.generate`` does, which keeps them to its end."""
        engine = llm.llm_engine
        with _failures():
            ids: list[str] = llm.enqueue(prompts, [self._sampling(window) for window in features], use_tqdm=False)
        left = dict(enumerate(ids))
        try:
            while left:
                with _failures():
                    busy = engine.has_unfinished_requests()
                    outputs = [output for output in engine.step() if output.finished] if busy else []
                if not busy:
                    raise ModelError(f"vLLM stopped with {len(left)} of {len(ids)} replies not written; {_REMEDY}")
                for output in outputs:
                    place = _place_of(output.request_id, left)
                    if place is None:  # of a run that was interrupted while its prompts were handed over
                        continue
                    del left[place]
                    yield place, _read(output)
        finally:
            if left:
                _abort(engine, left.values())


def _abort(engine: Any, ids: Collection[str]) -> None:
    """After an error, nobody waits for these replies any more. That error is what counts, if this fails as well."""
    try:
        engine.abort_request(list(ids), internal=True)
    except Exception as exc:  # see _failures
        _LOG.warning("vLLM goes on with %d replies that nobody waits for: %s", len(ids), first_line(exc))


def _place_of(request_id: str, left: Mapping[int, str]) -> int | None:
    """Whose output this is, if anybody's. vLLM adds something behind a dash to its ids, and tells them without."""
    ours = (place for place, given in left.items() if given == request_id or given.startswith(f"{request_id}-"))
    return next(ours, None)


def _read(output: Any) -> Written:
    return Written(
        ids=list(output.outputs[0].token_ids),
        prompt_ids=list(output.prompt_token_ids or ()),
        finish=output.outputs[0].finish_reason,
        reused_tokens=int(output.num_cached_tokens or 0),
    )


@contextmanager
def _failures() -> Iterator[None]:
    """vLLM and all that it starts raise what they like.

    Raises:
        ModelError: in its place.
    """
    try:
        yield
    except Exception as exc:
        raise ModelError(f"vLLM failed: {first_line(exc)}") from exc

"""The scorer against transformers' own ``generate``, and what it keeps between questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybrid.errors import InputError, ModelError, OutOfMemoryError
from hybrid.fine.aria.convert.convert import convert_gens
from hybrid.fine.interface import FeatureModel, FineModel, Request, read_window
from hybrid.testing.untrained_aria import TINY_SIZES, make_untrained_aria
from hybrid.values import ByteArray
from tests.fine.reading import features_from_rows, write_one

MakeFrames = Callable[..., list[ByteArray]]
LIMIT = 24
QUESTIONS = ["What happens after the door opens?", "Who?", "Which colour is the car?"]


@pytest.fixture(scope="module")
def reference(aria_folder: Path) -> Any:
    """The converted checkpoint as transformers loads it, untouched by this package."""
    from transformers import AriaForConditionalGeneration

    return AriaForConditionalGeneration.from_pretrained(aria_folder, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def frames(make_frames: MakeFrames) -> list[ByteArray]:
    """Of three sizes, more than one pass of the vision encoder."""
    return [*make_frames(6, 213, 120), *make_frames(2, 90, 160, seed=1), *make_frames(1, 600, 500, seed=2)]


def generate(reference: Any, scorer: Any, frames: list[ByteArray], question: str, **options: Any) -> list[int]:
    """New tokens of transformers, from ids with placeholders and from pixels; its logits are all its own."""

    from hybrid.fine.aria.preprocess import normalise

    tokens = scorer._checkpoint.tokens
    ids = torch.tensor([tokens.prefix([16] * len(frames)).ids + tokens.suffix(question)])
    pixels = normalise([scorer.prepare(frame) for frame in frames], device=torch.device("cpu"), dtype=torch.float32)
    settings = {"max_new_tokens": LIMIT, "do_sample": False, "eos_token_id": [2, 4], **options}
    written = reference.generate(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), **settings)
    found: list[int] = written[0, ids.shape[1] :].tolist()
    return found


@pytest.fixture(scope="module")
def plain_replies(reference: Any, aria_scorer: Any, frames: list[ByteArray]) -> dict[str, list[int]]:
    """What transformers writes to each question on all the frames."""
    return {question: generate(reference, aria_scorer, frames, question) for question in QUESTIONS}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("count", [1, 9])
def test_tokens_of_generate(
    aria_scorer: Any,
    reference: Any,
    frames: list[ByteArray],
    plain_replies: dict[str, list[int]],
    question: str,
    count: int,
) -> None:
    all_frames = count == len(frames)
    expected = plain_replies[question] if all_frames else generate(reference, aria_scorer, frames[:count], question)
    features = aria_scorer.encode_frames(frames[:count])
    assert write_one(aria_scorer, features, question).ids == tuple(expected)
    assert write_one(aria_scorer, features, question).ids == tuple(expected)


def test_replies_are_long_and_differ(aria_scorer: Any, frames: list[ByteArray]) -> None:
    """Otherwise equality with the reference would prove little."""
    features = aria_scorer.encode_frames(frames)
    replies = [tuple(write_one(aria_scorer, features, question).ids) for question in QUESTIONS]
    replies.append(tuple(write_one(aria_scorer, aria_scorer.encode_frames(frames[::-1]), QUESTIONS[0]).ids))
    assert len(set(replies)) == len(replies)
    assert max(len(set(reply)) for reply in replies) > 5


def test_the_end_of_the_turn_ends_a_reply(
    aria_copy: Path, make_aria_scorer: Callable[..., Any], reference: Any, frames: list[ByteArray]
) -> None:
    """<|im_end|> does, whether or not the generation settings name it; so does what they name."""
    plain = make_aria_scorer(aria_copy)
    assert plain._checkpoint.end_ids == {2, 4}
    long = max(QUESTIONS, key=lambda question: len(write_one(plain, plain.encode_frames(frames), question).ids))
    written = write_one(plain, plain.encode_frames(frames), long).ids
    end = next(number for place, number in enumerate(written) if place >= 3 and number not in written[:place])
    path = aria_copy / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": end}))
    stopping = make_aria_scorer(aria_copy)
    expected = written[: written.index(end) + 1]
    assert write_one(stopping, stopping.encode_frames(frames), long).ids == tuple(expected)
    scored = read_window(stopping, frames, long)
    assert scored.new_tokens == len(expected)
    assert not [note for note in scored.notes if "cut at the limit" in note]


def test_a_cut_reply_says_so(aria_folder: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray]) -> None:
    scorer = make_aria_scorer(aria_folder, max_new_tokens=2)
    scored = [read_window(scorer, frames, question) for question in QUESTIONS]
    cut = [reply for reply in scored if "the reply was cut at the limit of 2 tokens" in reply.notes]
    assert cut
    assert {reply.new_tokens for reply in cut} == {2}


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_repetition_penalty_of_the_checkpoint(
    aria_copy: Path,
    make_aria_scorer: Callable[..., Any],
    reference: Any,
    frames: list[ByteArray],
    plain_replies: dict[str, list[int]],
    penalty: float,
) -> None:
    path = aria_copy / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": penalty}))
    scorer = make_aria_scorer(aria_copy)
    features = scorer.encode_frames(frames)
    changed = 0
    for question in QUESTIONS:
        expected = generate(reference, scorer, frames, question, repetition_penalty=penalty)
        changed += expected != plain_replies[question]
        assert write_one(scorer, features, question).ids == tuple(expected)
    assert changed, "the penalty changes nothing here; choose another seed"


def test_the_other_router_changes_replies(
    aria_folders: dict[bool, Path], make_aria_scorer: Callable[..., Any], frames: list[ByteArray]
) -> None:
    """The two small checkpoints have the same weights."""
    replies = {
        norm: [read_window(make_aria_scorer(folder), frames, question).text for question in QUESTIONS]
        for norm, folder in aria_folders.items()
    }
    assert replies[True] != replies[False]


def test_it_is_a_scorer_of_both_kinds(aria_scorer: Any, aria_folder: Path) -> None:
    scorer: FineModel = aria_scorer
    assert isinstance(scorer, FeatureModel)
    assert scorer.name == scorer.identity["name"] == str(aria_folder)
    assert scorer.device == "cpu"
    assert (scorer.feature_width, scorer.feature_dtype) == (48, "float32")
    assert scorer.identity["prompt"] == aria_scorer.prompt.digest
    assert scorer.feature_identity["weights"] == scorer.identity["weights"]


def test_features_belong_to_their_frames(aria_scorer: Any, frames: list[ByteArray]) -> None:

    features = aria_scorer.encode_frames(frames)
    assert [tuple(item.shape) for item in features.items] == [(16, 48)] * len(frames)
    assert features.frame_count == len(frames)
    order = [8, 3, 3, 0]
    for place, item in zip(order, aria_scorer.encode_frames([frames[i] for i in order]).items, strict=True):
        torch.testing.assert_close(item, features.items[place], rtol=0, atol=1e-5)
    assert float((features.items[0] - features.items[1]).abs().max()) > 1e-2


def test_kept_features_give_the_same_scores(aria_scorer: Any, frames: list[ByteArray]) -> None:

    whole = read_window(aria_scorer, frames, QUESTIONS[0])
    kept = torch.stack(aria_scorer.encode_frames(frames).items)
    again = features_from_rows(kept, (1, 16))
    assert read_window(aria_scorer, again, QUESTIONS[0]).text == whole.text
    prepared = [aria_scorer.prepare(frame) for frame in frames]
    assert read_window(aria_scorer, prepared, QUESTIONS[0]).text == whole.text


def test_a_window_is_read_once(
    aria_folder: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray]
) -> None:
    scorer = make_aria_scorer(aria_folder)
    features = scorer.encode_frames(frames)
    first = read_window(scorer, features, QUESTIONS[0])
    assert first.reused_tokens == 0
    second = read_window(scorer, features, QUESTIONS[1])
    assert first.prompt_tokens > second.reused_tokens > 16 * len(frames)
    assert set(second.seconds) == {"preprocess", "vision", "prefix", "prefill", "decode", "parse"}
    scorer.writer.forget()
    alone = read_window(scorer, features, QUESTIONS[1])
    assert (alone.reused_tokens, alone.text) == (0, second.text)
    assert read_window(scorer, features, QUESTIONS[0]).text == first.text
    other = read_window(scorer, frames[:3], QUESTIONS[0])
    assert other.reused_tokens == 0


def test_many_at_once_are_as_one_by_one(
    aria_folder: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray]
) -> None:
    scorer = make_aria_scorer(aria_folder)
    windows = [scorer.encode_frames(frames), scorer.encode_frames(frames[:4])]
    pairs = [(windows[i % 2], question) for i, question in enumerate([*QUESTIONS, *QUESTIONS])]
    alone = [read_window(make_aria_scorer(aria_folder), *pair).text for pair in pairs]
    requests = [Request(i, question, window) for i, (window, question) in enumerate(pairs)]
    replies = {event.request_id: event.reply for event in scorer.read(requests, partial=True)}
    many = [replies[i] for i in range(len(pairs))]
    assert [reply.text for reply in many] == alone
    assert sum(reply.reused_tokens > 0 for reply in many) == len(pairs) - 2


def test_a_reader_that_stops_leaves_nothing_under_way(
    aria_folder: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = make_aria_scorer(aria_folder)
    window = scorer.encode_frames(frames[:2])
    written: list[str] = []
    reply = scorer.writer._reply
    monkeypatch.setattr(scorer.writer, "_reply", lambda *each: written.append("") or reply(*each))
    events = scorer.read([Request(i, question, window) for i, question in enumerate(QUESTIONS[:3])])
    first = next(events)
    # Nothing is locked between two events: whoever reads one may ask the same model.
    assert read_window(scorer, window, QUESTIONS[0]).text == first.reply.text
    events.close()
    assert len(written) == 2


def test_several_threads(aria_scorer: Any, frames: list[ByteArray]) -> None:
    windows = [aria_scorer.encode_frames(frames), aria_scorer.encode_frames(frames[2:6])]
    tasks = [(window, question) for window in windows for question in QUESTIONS] * 2
    alone = [read_window(aria_scorer, *task).text for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda task: read_window(aria_scorer, *task).text, tasks)) == alone


def test_bad_input_is_refused(
    aria_scorer: Any, aria_folder: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray]
) -> None:
    with pytest.raises(InputError, match="no frames"):
        read_window(aria_scorer, [], "Who?")
    with pytest.raises(InputError, match="question is empty"):
        read_window(aria_scorer, frames[:1], "  ")
    with pytest.raises(InputError, match="uint8"):
        read_window(aria_scorer, [np.zeros((4, 4, 3), np.float32)], "Who?")
    other = replace(aria_scorer.encode_frames(frames[:1]), mode="video")
    with pytest.raises(InputError, match="video mode"):
        read_window(aria_scorer, other, "Who?")


def test_a_window_beyond_the_positions_is_refused(
    aria_copy: Path, make_aria_scorer: Callable[..., Any], edit_json: Callable[..., None], frames: list[ByteArray]
) -> None:
    edit_json(aria_copy / "config.json", "text_config.max_position_embeddings", 400)
    scorer = make_aria_scorer(aria_copy)
    short = read_window(scorer, frames[:3], "Who?")
    with pytest.raises(InputError, match="use a smaller --window"):
        read_window(scorer, frames, "Who?")
    # A window that is kept is no excuse for a question that does not fit behind it.
    with pytest.raises(InputError, match="shorter question"):
        read_window(scorer, frames[:3], "Who? " * 80)
    again = read_window(scorer, frames[:3], "Who?")
    assert again.text == short.text
    assert again.reused_tokens > 0


def test_the_cached_window_goes_where_frames_need_its_memory(
    aria_scorer: Any, frames: list[ByteArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid.fine.aria import frames as module

    real, writer = module.encode_pixels, aria_scorer.writer

    def short(*arguments: Any, **options: Any) -> Any:
        if writer._window is not None:
            raise RuntimeError("CUDA error: out of memory")
        return real(*arguments, **options)

    expected = aria_scorer.encode_frames(frames[:1])
    write_one(aria_scorer, expected, QUESTIONS[0])
    monkeypatch.setattr(module, "encode_pixels", short)
    assert aria_scorer.encode_frames(frames[:1]).key == expected.key
    assert not writer.holds_window


def test_running_out_of_memory_is_one_error(
    aria_folder: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid.fine.aria.writer import Reader

    scorer = make_aria_scorer(aria_folder)
    before = read_window(scorer, frames[:2], "Who?").text
    features = scorer.encode_frames(frames[:3])

    def full(self: Any, embeddings: Any) -> Any:
        raise RuntimeError("CUDA error: out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "read", full)
        with pytest.raises(OutOfMemoryError, match="window of 3 frames"):
            read_window(scorer, features, "Who?")
    assert read_window(scorer, frames[:2], "Who?").text == before


def test_broken_weights_are_an_error(
    aria_copy: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray]
) -> None:
    scorer = make_aria_scorer(aria_copy)
    scorer._checkpoint.model.lm_head.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        read_window(scorer, frames[:1], "Who?")


def test_half_precision_runs(tmp_path: Path, make_aria_scorer: Callable[..., Any], frames: list[ByteArray]) -> None:
    """With experts of a width that torch's grouped product takes in 16 bits: a multiple of 8, as Aria's is."""
    source = make_untrained_aria(tmp_path / "source", sizes=replace(TINY_SIZES, expert_width=24), dtype="bfloat16")
    scorer = make_aria_scorer(convert_gens(source, tmp_path / "native").folder, dtype="bfloat16")
    features = scorer.encode_frames(frames[:3])
    assert {str(item.dtype) for item in features.items} == {"torch.bfloat16"}
    assert scorer.feature_dtype == scorer.identity["dtype"] == "bfloat16"
    assert read_window(scorer, features, "Who?").new_tokens > 0


def test_the_published_example_runs(aria_scorer: Any, shared_data: Path) -> None:
    """GenS's own 51 frames go through every part."""
    from PIL import Image

    paths = sorted((shared_data / "gens_example").glob("sec*.png"))[::5]
    frames = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    scored = read_window(aria_scorer, frames, "After styling the lady's hair, what action did the maid perform next?")
    # 16 features, two brackets, start and end and newline a frame, and the digits of the labels.
    assert scored.prompt_tokens > len(frames) * 21 + 24
    assert all(position < len(frames) for position in scored.scores)

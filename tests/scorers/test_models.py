"""Each scorer against its formula, computed another way, and against transformers' own processors."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.clip.registry import load_encoder
from hybrid.errors import ModelError, OutOfMemoryError
from hybrid.runtime import ensure_torchvision
from hybrid.scorers.batches import in_batches
from hybrid.scorers.clip import ClipScorer
from hybrid.scorers.gens import GensScorer
from hybrid.scorers.interface import VideoScorer
from hybrid.scorers.pixels import BILINEAR, PixelRule, read_pixel_rule
from hybrid.scorers.spec import load_video_scorer
from hybrid.scorers.yes import PROMPT, word_tokens
from hybrid.values import ByteArray
from tests.engine.conftest import Recorded

ensure_torchvision()
torch = pytest.importorskip("torch")

ScorerOf = Callable[..., VideoScorer]
SpecOf = Callable[[str], str]
QUESTION = "when is the red circle visible?"


def folder_of(spec: str) -> Path:
    return Path(spec.partition(":")[2].partition(",")[0])


def pillow_processor(family: str) -> Any:
    """transformers' image processor that resizes with Pillow; older versions have it under the plain name."""
    place = f"transformers.models.{family.lower()}.image_processing_"
    try:
        return getattr(import_module(f"{place}pil_{family.lower()}"), f"{family}ImageProcessorPil")
    except ModuleNotFoundError:
        return getattr(import_module(f"{place}{family.lower()}"), f"{family}ImageProcessor")


@pytest.mark.parametrize("shape", [(40, 56), (57, 33), (32, 32), (31, 90), (20, 20)])
def test_pixels_are_those_of_the_published_processors(tmp_path: Path, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    square = pillow_processor("Blip")(size={"height": 32, "width": 32})
    shorter = pillow_processor("CLIP")(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for processor, is_square in ((square, True), (shorter, False)):
        processor.save_pretrained(tmp_path)
        rule = read_pixel_rule(tmp_path, square=is_square)
        theirs = np.asarray(processor(frame, return_tensors="np")["pixel_values"][0])
        assert rule.apply(frame) == pytest.approx(theirs, abs=1e-5)


def test_old_files_say_a_size_as_one_number(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": 48, "do_center_crop": true, "crop_size": 32}')
    assert read_pixel_rule(tmp_path, square=True) == PixelRule(exact=(48, 48), crop=(32, 32))
    assert read_pixel_rule(tmp_path, square=False) == PixelRule(shorter=48, crop=(32, 32))


@pytest.mark.parametrize("first", ["enc", "cls"])
def test_blip_is_transformers_own_forward(spec_of: SpecOf, frames: list[ByteArray], first: str) -> None:
    from transformers import AutoTokenizer, BlipForImageTextRetrieval

    folder = folder_of(spec_of("blip-itm"))
    scores = load_video_scorer(f"blip-itm:{folder},first={first}", device="cpu").score(frames, [QUESTION])[0]
    model = BlipForImageTextRetrieval.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(QUESTION, return_tensors="pt")["input_ids"]
    if first == "enc":
        ids[:, 0] = model.config.text_config.vocab_size - 1
    rule = read_pixel_rule(folder, square=True)
    for score, frame in zip(scores, frames, strict=True):
        with torch.no_grad():
            logits = model(ids, torch.from_numpy(rule.apply(frame))[None], use_itm_head=True).itm_score
        assert score == pytest.approx(float(logits.softmax(-1)[0, 1]), abs=1e-5)


def test_blip_reads_a_question_as_its_processor_leaves_it(scorer_of: ScorerOf, frames: list[ByteArray]) -> None:
    blip = scorer_of("blip-itm")
    plain = blip.score(frames, [QUESTION])
    assert (blip.score(frames, ['When is "the red circle"   (visible)?']) == plain).all()
    longer = QUESTION + 80 * " blue"
    assert (blip.score(frames, [longer]) == blip.score(frames, [longer + " green"])).all()  # beyond what it reads


def test_sixteen_bits_are_close(spec_of: SpecOf, scorer_of: ScorerOf, frames: list[ByteArray]) -> None:
    half = load_video_scorer(spec_of("blip-itm"), device="cpu", dtype="bfloat16")
    assert half.identity["dtype"] == "bfloat16"
    assert half.score(frames, [QUESTION]) == pytest.approx(scorer_of("blip-itm").score(frames, [QUESTION]), abs=0.1)


def test_yes_is_the_share_of_the_first_token(spec_of: SpecOf, frames: list[ByteArray]) -> None:
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    folder = folder_of(spec_of("yes"))
    pair = load_video_scorer(f"yes:{folder}", device="cpu").score(frames[:3], [QUESTION])[0]
    vocabulary = load_video_scorer(f"yes:{folder},of=vocabulary", device="cpu").score(frames[:3], [QUESTION])[0]
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    words = {
        word: [i for text, i in processor.tokenizer.get_vocab().items() if text.strip("\u0120 ").lower() == word]
        for word in ("yes", "no")
    }
    assert all(words.values())
    for place, frame in enumerate(frames[:3]):
        text = f"user: <image>\n{PROMPT.format(question=QUESTION)} assistant:"
        inputs = processor(images=Image.fromarray(frame), text=text, return_tensors="pt")
        with torch.no_grad():
            shares = model(**inputs).logits[0, -1].softmax(-1)
        yes, no = (float(shares[words[word]].sum()) for word in ("yes", "no"))
        assert pair[place] == pytest.approx(yes / (yes + no), abs=1e-5)
        assert vocabulary[place] == pytest.approx(yes, abs=1e-6)


class Vocabulary:
    """A tokenizer with these tokens; it writes every word that it does not know with two."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = {token: place for place, token in enumerate(tokens)}

    def get_vocab(self) -> dict[str, int]:
        return self.tokens

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [self.tokens[text]] if text in self.tokens else [0, 0]

    def decode(self, ids: list[int]) -> str:
        return next(token for token, place in self.tokens.items() if place == ids[0])


def test_all_ways_to_write_a_word_count_but_no_part_of_one() -> None:
    tokenizer: Any = Vocabulary("<unk>", "yes", "\u2581Yes", "\u0120YES", "Ye", " yes", "yesterday")
    assert word_tokens(tokenizer, "yes") == [1, 2, 3, 5]
    with pytest.raises(ModelError, match="no single token for 'no'"):
        word_tokens(tokenizer, "no")


def test_a_model_of_another_family_can_be_asked_too(
    tmp_path: Path, frames: list[ByteArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    import hybrid.testing.untrained_gens as untrained
    from tests.scorers.checkpoints import LINES

    monkeypatch.setattr(untrained, "_LINES", (*untrained._LINES, *(4 * LINES)))  # so that it has the two words
    folder = untrained.make_untrained_gens(tmp_path / "qwen")
    scorer = load_video_scorer(f"yes:{folder}", device="cpu")
    scores = scorer.score([*frames[:2], frames[2][::2]], [QUESTION, "Who speaks?"])
    assert ((scores > 0) & (scores < 1)).all()
    assert len(np.unique(scores.round(7))) == scores.size


def test_tspo_is_its_formula(spec_of: SpecOf, scorer_of: ScorerOf) -> None:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, CLIPModel

    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(17)]  # more than a window
    folder = folder_of(spec_of("tspo"))
    scores = scorer_of("tspo").score(pictures, [QUESTION])[0]
    tensors = load_file(folder / "model.safetensors")
    model = CLIPModel.from_pretrained(folder).eval()
    rule = read_pixel_rule(folder, square=False)
    tokens = AutoTokenizer.from_pretrained(folder)(QUESTION, return_tensors="pt")
    with torch.no_grad():
        vision = model.vision_model(pixel_values=torch.stack([torch.from_numpy(rule.apply(p)) for p in pictures]))
        x = model.visual_projection(vision.pooler_output).double().numpy()
        e = model.text_projection(model.text_model(**tokens).pooler_output)[0].double().numpy()
    assert scores == pytest.approx(_tspo(x, e, {k: v.double().numpy() for k, v in tensors.items()}), abs=2e-3)


def _tspo(x: np.ndarray, e: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Frame by frame and head by head, over the frames of the window."""
    count, width = x.shape
    head = width // 8

    def linear(name: str, v: np.ndarray) -> np.ndarray:
        return v @ tensors[f"selector.{name}.weight"].T + tensors[f"selector.{name}.bias"]

    y = x.copy()
    for j in range(count):
        for i in range(width // 2):
            angle = j / count * 10000.0 ** (-2 * i / width)
            y[j, 2 * i] += np.sin(angle)
            y[j, 2 * i + 1] += np.cos(angle)
    q, k, v = (linear(f"temporal.Self_{part}", y) for part in "qkv")
    scores = []
    for j in range(count):
        seen = sorted({min(max(j - 6 + place, 0), count - 1) for place in range(12)})
        attended = []
        for h in range(8):
            part = slice(h * head, (h + 1) * head)
            logits = np.array([q[j, part] @ k[other, part] for other in seen]) / np.sqrt(head)
            shares = np.exp(logits - logits.max())
            attended.append((shares / shares.sum()) @ v[seen, part])
        z = linear("mlp.2", np.maximum(linear("mlp.0", np.concatenate(attended)), 0)) + x[j]
        cosines = [u @ e / (np.linalg.norm(u) * np.linalg.norm(e)) for u in (z, x[j])]
        scores.append(sum(cosines) / 0.025)
    return np.array(scores)


def test_peek_is_its_formula(spec_of: SpecOf, scorer_of: ScorerOf, clip_folder: Path, frames: list[ByteArray]) -> None:
    from hybrid.clip.open_clip import load_open_clip
    from tests.scorers.checkpoints import peek_tensors

    scores = scorer_of("peek").score(frames, [QUESTION])[0]
    rule = PixelRule(shorter=64, crop=(64, 64), resample=BILINEAR, rounded=True, mean=(0, 0, 0), std=(1, 1, 1))
    clip = load_open_clip(f"local-dir:{clip_folder}", device="cpu", dtype="float32")
    with torch.no_grad():
        features = clip.model.encode_image(torch.from_numpy(np.stack([rule.apply(frame) for frame in frames])))
    assert scores == pytest.approx(
        _peek(features.double().numpy(), {k: v.double().numpy() for k, v in peek_tensors(64).items()}), abs=1e-3
    )


def _peek(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    def norm(v: np.ndarray, name: str) -> np.ndarray:
        centred = v - v.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])

    def linear(v: np.ndarray, weight: str, bias: str) -> np.ndarray:
        return np.asarray(v @ w[weight].T + w[bias])

    h = linear(norm(x, "layer_norm"), "input_projection.weight", "input_projection.bias")
    count, width = h.shape
    for i in range(width // 2):
        angles = np.arange(count) * 10000.0 ** (-2 * i / width)
        h[:, 2 * i] += np.sin(angles)
        h[:, 2 * i + 1] += np.cos(angles)
    for layer in range(2):
        at = f"transformer.layers.{layer}"
        normed = norm(h, f"{at}.norm1")
        q, k, v = np.split(linear(normed, f"{at}.self_attn.in_proj_weight", f"{at}.self_attn.in_proj_bias"), 3, axis=-1)
        heads = []
        for head in range(4):
            part = slice(head * width // 4, (head + 1) * width // 4)
            logits = q[:, part] @ k[:, part].T / np.sqrt(width // 4)
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            heads.append(shares / shares.sum(-1, keepdims=True) @ v[:, part])
        joined = np.concatenate(heads, axis=-1)
        h = h + linear(joined, f"{at}.self_attn.out_proj.weight", f"{at}.self_attn.out_proj.bias")
        hidden = np.maximum(linear(norm(h, f"{at}.norm2"), f"{at}.linear1.weight", f"{at}.linear1.bias"), 0)
        h = h + linear(hidden, f"{at}.linear2.weight", f"{at}.linear2.bias")
    return np.asarray(linear(h, "score_head.weight", "score_head.bias")[:, 0])


def test_clip_is_the_cosine(clip_folder: Path, frames: list[ByteArray]) -> None:
    encoder = load_encoder(f"local-dir:{clip_folder}", device="cpu")
    vectors = np.concatenate(list(encoder.encode_frames(frames)))
    scores = ClipScorer(encoder).score(frames, [QUESTION])[0]
    assert scores == pytest.approx(vectors @ encoder.encode_text(QUESTION).vector, abs=1e-6)


def test_positions_of_gens_become_frames_window_by_window(frames: list[ByteArray]) -> None:
    scorer = GensScorer(Recorded('{"0": 5, "2": 3}', '{"1": 4}', "nothing"), window=3)
    assert scorer.score(frames, [QUESTION]).tolist() == [[5, 0, 3, 0, 4, 0, 0]]


def test_a_device_without_room_gets_fewer_frames_at_once(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []

    def compute(items: Any) -> list[int]:
        tried.append(len(items))
        if len(items) > 3:
            raise OutOfMemoryError("no room")
        return list(items)

    found = [item for block in in_batches(range(20), 8, compute) for item in block]
    assert found == list(range(20))
    assert tried[:3] == [8, 4, 2]
    assert max(tried[2:]) == 2
    assert "no room" in caplog.text
    with pytest.raises(OutOfMemoryError):
        list(in_batches([1], 8, lambda items: compute([*items] * 4)))

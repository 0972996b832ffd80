"""How scorers are named and loaded, and what is said of a checkpoint that is not theirs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hybrid.scorers.registry as registry
from hybrid.errors import InputError, ModelLoadError
from hybrid.scorers.registry import SCORERS
from hybrid.scorers.spec import load_video_scorer, parse_scorer
from tests.scorers import checkpoints as made

SpecOf = Callable[[str], str]


def test_there_is_one_file_for_each_name() -> None:
    shared = {"__init__", "batches", "checkpoint", "interface", "pixels", "registry", "sinusoids", "spec"}
    files = {file.stem for file in Path(registry.__file__).parent.glob("*.py")} - shared
    assert {name.replace("-", "_") for name in SCORERS.names} == files
    assert [kind.name for kind in SCORERS] == list(SCORERS.names)
    assert all(kind.summary and kind.needs and kind.source for kind in SCORERS)


def test_looking_at_the_list_imports_no_model_library() -> None:
    program = (
        "import sys; from hybrid.scorers.registry import SCORERS; list(SCORERS); "
        "sys.exit(','.join({'torch', 'transformers', 'open_clip'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.strip()) in ((0, ""), (1, ""))


def test_what_is_asked_for_is_read() -> None:
    wanted = parse_scorer("peek:weights/peek.safetensors,encoder=local-dir:clip")
    assert (wanted.kind.name, wanted.checkpoint) == ("peek", "weights/peek.safetensors")
    assert wanted.options == {"encoder": "local-dir:clip"}
    assert parse_scorer("clip").checkpoint is None
    assert parse_scorer("clip:ViT-B-32/laion2b_s34b_b79k").checkpoint == "ViT-B-32/laion2b_s34b_b79k"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blip", "no scorer 'blip'; did you mean 'blip-itm'\\? Legal are clip, gens, blip-itm, yes, tspo, peek"),
        ("tspo", "tspo needs a checkpoint: tspo:CHECKPOINT"),
        ("clip:", "clip needs a checkpoint"),
        ("yes:folder,off=pair", "'off=pair' is no option of the scores yes; its options are: of"),
        ("tspo:folder,window=3", "its options are: none"),
        ("yes:folder,of=half", "of is 'half'; legal are pair, vocabulary"),
        ("blip-itm:folder,first=sep", "first is 'sep'; legal are enc, cls"),
        ("gens", "which answering makes from the index"),
    ],
)
def test_what_is_not_legal_is_answered_with_what_is(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_video_scorer(text, device="cpu")


@pytest.mark.parametrize("kind", ["blip-itm", "yes", "tspo"])
def test_a_folder_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="there is no folder"):
        load_video_scorer(f"{kind}:{tmp_path / 'none'}", device="cpu")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="holds no weights"):
        load_video_scorer(f"{kind}:{tmp_path / 'empty'}", device="cpu")


def test_a_checkpoint_of_another_kind_is_refused(spec_of: SpecOf, tmp_path: Path) -> None:
    def folder(kind: str) -> str:
        return spec_of(kind).partition(":")[2]

    with pytest.raises(ModelLoadError, match=r"cannot be loaded|not a checkpoint"):
        load_video_scorer(f"blip-itm:{folder('tspo')}", device="cpu")
    with pytest.raises(ModelLoadError, match=r"processor|chat template|cannot be loaded"):
        load_video_scorer(f"yes:{folder('tspo')}", device="cpu")
    plain = made.make_tspo(tmp_path / "clip", selector=False)
    with pytest.raises(ModelLoadError, match=r"no tensor selector\.temporal\.Self_q\.weight; it is a CLIP"):
        load_video_scorer(f"tspo:{plain}", device="cpu")


def test_a_blip_without_the_token_says_how_to_do_without(tmp_path: Path) -> None:
    folder = made.make_blip(tmp_path / "blip", enc=False)
    with pytest.raises(ModelLoadError, match=r"no token \[ENC\].*,first=cls"):
        load_video_scorer(f"blip-itm:{folder}", device="cpu")
    assert load_video_scorer(f"blip-itm:{folder},first=cls", device="cpu").identity["first"] == "cls"


def test_weights_in_pytorchs_own_files_do_too(spec_of: SpecOf, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "blip"
    shutil.copytree(spec_of("blip-itm").partition(":")[2], folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert load_video_scorer(f"blip-itm:{folder}", device="cpu").device == "cpu"


def test_peeks_tensors_must_have_their_names_and_shapes(tmp_path: Path, clip_folder: Path) -> None:
    from safetensors.torch import save_file

    encoder = f"encoder=local-dir:{clip_folder}"
    with pytest.raises(ModelLoadError, match="there is no file"):
        load_video_scorer(f"peek:{tmp_path / 'none.safetensors'},{encoder}", device="cpu")
    tensors = made.peek_tensors(64)
    del tensors["transformer.layers.1.norm2.bias"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(ModelLoadError, match=r"does not hold PEEK's weights.*norm2\.bias"):
        load_video_scorer(f"peek:{tmp_path / 'less.safetensors'},{encoder}", device="cpu")
    other = made.make_peek(tmp_path / "other.safetensors", 512)
    with pytest.raises(ModelLoadError, match=r"gives 64 values a frame, .* takes 512; PEEK's own is MobileCLIP2-S0"):
        load_video_scorer(f"peek:{other},{encoder}", device="cpu")


@pytest.mark.parametrize("name", SCORERS.names)
def test_a_batch_of_nothing_is_refused(spec_of: SpecOf, name: str) -> None:
    if name == "gens":
        pytest.skip("it reads windows")
    with pytest.raises(InputError, match="batch_size is 0"):
        load_video_scorer(spec_of(name), device="cpu", batch_size=0)
    assert SCORERS.find(name).name == name

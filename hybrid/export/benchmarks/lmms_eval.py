"""Selected frames for lmms-eval (EvolvingLMMs-Lab/lmms-eval, 0.7), whose models then see them instead of the video.

Two steps, because lmms-eval needs av below 16 and hybrid a newer one, so that both do not go into one environment:

1. where hybrid is: :func:`save_selection` writes a folder with ``selection.jsonl`` and the frames as pictures, and if
   wanted as a clip a question;
2. where lmms-eval is: ``pip install --no-deps hybrid``, which makes the model ``hybrid_frames`` known there (entry
   point ``lmms_eval.models``), and::

       lmms-eval --model hybrid_frames --tasks longvideobench_val_v \\
           --model_args inner=qwen2_5_vl,selection=FOLDER,pretrained=Qwen/Qwen2.5-VL-7B-Instruct

   ``inner`` is any model of lmms-eval; what is not named here goes to it. ``show=images`` (the default) gives it the
   frames as pictures, ``show=clip`` a video of them, for models that treat the two differently: a clip has the selected
   frames, one a second, the last one twice where their number is odd (qwen-vl-utils takes even numbers only). The
   model's own sampler must then take all of them: set its number of frames to the budget. A clip has no times of the
   original video. Models that are "simple" in lmms-eval need ``--force_simple``.

A line of the selection belongs to a question if the video has its name and the text that the model is asked contains
its question; of several such lines, the longest question. ``key=id`` finds the line by a field of the task's document
instead. A question without a line, and one without a video, is an error: nothing is shown uniform frames in silence.
lmms-eval's response cache knows the folder's name and not what lies in it: give each selection a folder of its own.

This module knows the folder; :mod:`hybrid.export.benchmarks.lmms_eval_model` holds the models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final, Literal, get_args

from hybrid.answers import Answer
from hybrid.errors import InputError, SaveError
from hybrid.export.interface import Pictures
from hybrid.export.text_file import write_text
from hybrid.image_file import read_image
from hybrid.storage.foreign_json import STORED, parse_json_lines, read_text
from hybrid.values import ByteArray

__all__ = ["Selection", "Show", "manifest", "read_selection", "save_selection", "shown_messages"]

SELECTION_FILE: Final = "selection.jsonl"
FORMAT: Final = 1
JPEG_QUALITY: Final = 95

Show = Literal["images", "clip"]


def save_selection(
    answers: Mapping[str, Answer], images: Callable[[Answer], Pictures], folder: Path, *, clips: bool = False
) -> None:
    """Write the folder; its list comes last, so that a folder that has one is complete.

    Args:
        answers: by the benchmark's id of the question.
        images: gives (ordinal, uint8 [H, W, 3] RGB) of an answer's frames in time order, as
            :meth:`hybrid.engine.Engine.read_frames` does.
        folder: made if it is not there.
        clips: write a clip for each question besides.

    Raises:
        InputError: no answer, an answer without frames, or frames without a picture.
        SaveError: the folder cannot be written.
    """
    if not answers:
        raise InputError("there is no answer to write")
    lines = []
    for number, (name, answer) in enumerate(answers.items()):
        pictures = [rgb for _, rgb in images(answer)]
        if not pictures or len(pictures) != len(answer.frames):
            raise InputError(
                f"the answer to {name} has {len(answer.frames)} frames and {len(pictures)} pictures; a model must be "
                "shown all that were selected, and one at least"
            )
        files = _save_images(pictures, [frame.seconds for frame in answer.frames], folder, f"{number:06d}")
        lines.append(
            {
                "format": FORMAT,
                "id": name,
                "video": PurePath(answer.video).name,
                "question": answer.question,
                "seconds": [frame.seconds for frame in answer.frames],
                "frame_numbers": [frame.frame_number for frame in answer.frames],
                "images": files,
                "clip": _save_clip(pictures, folder, f"{number:06d}") if clips else None,
            }
        )
    write_text(folder / SELECTION_FILE, "".join(json.dumps(line) + "\n" for line in lines))


@dataclass(frozen=True, slots=True)
class Selected:
    """One line of a selection.

    Attributes:
        id: the benchmark's id of the question.
        video: name of the video's file.
        question: as it was asked.
        images: files of the frames, in time order.
        clip: file of the clip; None if none was made.
    """

    id: str
    video: str
    question: str
    images: tuple[Path, ...]
    clip: Path | None


class Selection:
    """The lines of a selection, and which one belongs to what a model is asked."""

    def __init__(self, lines: Sequence[Selected], *, key: str | None = None) -> None:
        self._key = key
        self._by_id = {line.id: line for line in lines}
        self._by_video: dict[str, list[Selected]] = {}
        for line in lines:
            self._by_video.setdefault(line.video, []).append(line)

    def find(self, document: Mapping[str, Any], video: str, text: str) -> Selected:
        """The line of a question.

        Args:
            document: of lmms-eval's task; looked at if a key was named.
            video: path or name of its video.
            text: what the model is asked.

        Raises:
            InputError: no line belongs to it, or several do.
        """
        if self._key is not None:
            return self._by_key(document, self._key)
        lines = [line for line in self._by_video.get(PurePath(video).name, ()) if line.question in text]
        longest = max((len(line.question) for line in lines), default=0)
        best = [line for line in lines if len(line.question) == longest]
        if len(best) != 1:
            found = "none" if not best else ", ".join(line.id for line in best)
            raise InputError(
                f"the selection must hold one line for the video {PurePath(video).name} and a question in "
                f"{text[:200]!r}; it holds {found}. A field of the task's documents may tell them apart (key=FIELD)"
            )
        return best[0]

    def _by_key(self, document: Mapping[str, Any], key: str) -> Selected:
        if key not in document:
            raise InputError(f"key is {key!r}, but the task's documents have {', '.join(document)}")
        name = str(document[key])
        if name not in self._by_id:
            raise InputError(f"the selection holds no line with the id {name!r} ({key} of the task's document)")
        return self._by_id[name]


def read_selection(folder: Path, *, key: str | None = None) -> Selection:
    """Read what :func:`save_selection` wrote.

    Args:
        folder: that holds it.
        key: field of a task's documents that holds the id of a line; None to go by video and question.

    Raises:
        InputError: there is no selection, or it is of another form.
    """
    path = folder / SELECTION_FILE
    try:
        documents = parse_json_lines(read_text(path, limits=STORED), where=str(path), names=True)
        lines = [_line(document, folder) for _, document in documents]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{path} is not a selection of hybrid: {exc}; write one with save_selection") from exc
    return Selection(lines, key=key)


def _line(document: Mapping[str, Any], folder: Path) -> Selected:
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']}, and this version reads {FORMAT}")
    return Selected(
        id=str(document["id"]),
        video=document["video"],
        question=document["question"],
        images=tuple(folder / name for name in document["images"]),
        clip=None if document["clip"] is None else folder / document["clip"],
    )


def check_show(show: str) -> Show:
    """What a model is shown.

    Raises:
        InputError: it is neither ``images`` nor ``clip``.
    """
    chosen: Show | None = next((name for name in get_args(Show) if name == show), None)
    if chosen is None:
        raise InputError(f"show is {show!r}; legal are {', '.join(get_args(Show))}")
    return chosen


def shown_media(line: Selected, show: Show) -> list[Any]:
    """What is shown instead of the video: pictures (PIL, RGB), or the path of the clip.

    Raises:
        InputError: the selection has no clips.
    """
    if show == "clip":
        if line.clip is None:
            raise InputError("the selection has no clips; write it with clips=True, or use show=images")
        return [str(line.clip)]
    from PIL import Image

    return [Image.fromarray(read_image(path)[0]) for path in line.images]


def shown_messages(
    messages: Sequence[Mapping[str, Any]], document: Mapping[str, Any], selection: Selection, show: Show
) -> list[dict[str, Any]]:
    """lmms-eval's messages with the selected frames instead of the video.

    Args:
        messages: each with ``role`` and ``content``, a list of parts with ``type`` (text, image, video, audio).
        document: of the task.
        selection: where the frames come from.
        show: as what they are shown.

    Raises:
        InputError: there is not exactly one video, or no line for it.
    """
    parts = [part for message in messages for part in message["content"]]
    videos = [part["url"] for part in parts if part["type"] == "video"]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    line = selection.find(document, only_video(videos), text)
    kind = "video" if show == "clip" else "image"
    media = [{"type": kind, "url": item} for item in shown_media(line, show)]
    return [
        {
            **message,
            "content": [
                new for part in message["content"] for new in (media if part["type"] == "video" else [dict(part)])
            ],
        }
        for message in messages
    ]


def only_video(media: Sequence[Any]) -> str:
    """The path of the one video that a question is about.

    Raises:
        InputError: there is none, there are several, or it is not given as a path.
    """
    if len(media) != 1 or not isinstance(media[0], str):
        kinds = ", ".join(type(item).__name__ for item in media) or "nothing"
        raise InputError(
            f"the task shows the model {kinds}, and not one video; frames are shown instead of a video, so take the "
            "task's variant that gives one (longvideobench_val_v, not longvideobench_val_i)"
        )
    return media[0]


def manifest() -> Any:
    """What lmms-eval's entry point ``lmms_eval.models`` wants to know; called by lmms-eval."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="hybrid_frames",
        simple_class_path="hybrid.export.benchmarks.lmms_eval_model.SimpleFrames",
        chat_class_path="hybrid.export.benchmarks.lmms_eval_model.ChatFrames",
    )


def _save_images(pictures: Sequence[ByteArray], seconds: Sequence[float], folder: Path, name: str) -> list[str]:
    from PIL import Image

    files = []
    try:
        (folder / "frames" / name).mkdir(parents=True, exist_ok=True)
        for index, (rgb, when) in enumerate(zip(pictures, seconds, strict=True)):
            file = f"frames/{name}/{index:04d}_{when:.3f}s.jpg"
            Image.fromarray(rgb).save(folder / file, quality=JPEG_QUALITY)
            files.append(file)
    except OSError as exc:
        raise SaveError(f"the frames cannot be saved in {folder}: {exc.strerror or exc}") from exc
    return files


def _save_clip(pictures: Sequence[ByteArray], folder: Path, name: str) -> str:
    """One frame a second, each a key frame, so that every seek is exact; sides cut to even numbers for H.264."""
    import av

    file = f"clips/{name}.mp4"
    height, width = (side - side % 2 for side in pictures[0].shape[:2])
    try:
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        with av.open(str(folder / file), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=1, options={"crf": "10", "g": "1", "bf": "0", "threads": "1"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for rgb in [*pictures, *(pictures[-1:] if len(pictures) % 2 else ())]:
                frame = av.VideoFrame.from_ndarray(rgb[:height, :width].copy(), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except OSError as exc:
        raise SaveError(f"the clip {folder / file} cannot be saved: {exc.strerror or exc}") from exc
    return file

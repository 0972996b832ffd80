"""A contact sheet: the selected frames on one image, with times and scores."""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.answers import Answer, AnswerFrame
from hybrid.errors import SaveError
from hybrid.export.interface import AnswerExporter, Pictures
from hybrid.export.output_file import OutputKind
from hybrid.formatting import plural
from hybrid.storage.atomic import write_atomically
from hybrid.values import ByteArray

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["EXPORTER", "SheetExporter", "draw_sheet"]

CELL_WIDTH = 240
COLUMNS = 6
TALLEST = 1.8
MARGIN = 12
CAPTION = 40
LINE = 22
TIMELINE = 26
BACKGROUND = (24, 24, 27)
INK = (244, 244, 245)
FAINT = (161, 161, 170)
TRACK = (63, 63, 70)
SPAN = (56, 142, 90)
MARK = (250, 204, 21)


class SheetExporter(AnswerExporter):
    """A contact sheet as PNG; see :func:`draw_sheet`."""

    name = "sheet"
    flag = "--sheet"
    help = "Save a contact sheet (PNG) here."
    kind = OutputKind("a contact sheet (PNG)", (".png",), b"\x89PNG")

    def write(self, answer: Answer, pictures: Pictures, path: Path) -> None:
        """See the base class."""
        png = io.BytesIO()
        draw_sheet(answer, pictures).save(png, format="PNG")
        try:
            write_atomically(path, png.getvalue(), durable=False)
        except OSError as exc:
            raise SaveError(f"the sheet cannot be saved as {path}: {exc.strerror or exc}") from exc


EXPORTER = SheetExporter()


def draw_sheet(answer: Answer, pictures: Pictures) -> PILImage:
    """The question, a timeline with spans and frames, and the frames with time and scores.

    Args:
        answer: what to show.
        pictures: of its frames; each is made small at once. A frame without a picture gets an empty cell
            that says so, so that nothing moves up.
    """
    from PIL import Image, ImageDraw, ImageFont

    thumbnails = {ordinal: _thumbnail(image) for ordinal, image in pictures}
    columns = max(1, min(COLUMNS, len(answer.frames)))
    width = max(3, columns) * (CELL_WIDTH + MARGIN) + MARGIN
    title = textwrap.wrap(answer.question, width=max(20, width // 10)) or [""]
    head = MARGIN + LINE * (len(title) + 1 + len(_fallbacks(answer)))
    cell_height = max((image.height for image in thumbnails.values()), default=round(CELL_WIDTH * 9 / 16))
    rows = math.ceil(len(answer.frames) / columns) if answer.frames else 0
    height = head + TIMELINE + 2 * MARGIN + rows * (cell_height + CAPTION + MARGIN)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(size=17), ImageFont.load_default(size=14)
    y = MARGIN
    for line in title:
        draw.text((MARGIN, y), line, font=font, fill=INK)
        y += LINE
    draw.text((MARGIN, y), _subtitle(answer), font=small, fill=FAINT)
    for line in _fallbacks(answer):
        y += LINE
        draw.text((MARGIN, y), line[: width // 7], font=small, fill=MARK)
    _draw_timeline(draw, answer, top=head + MARGIN, width=width, font=small)
    top = head + TIMELINE + 2 * MARGIN
    for i, frame in enumerate(answer.frames):
        x = MARGIN + (i % columns) * (CELL_WIDTH + MARGIN)
        y = top + (i // columns) * (cell_height + CAPTION + MARGIN)
        _draw_cell(sheet, draw, frame, thumbnails.get(frame.ordinal), at=(x, y), height=cell_height, font=small)
    return sheet


def _thumbnail(image: ByteArray) -> PILImage:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((CELL_WIDTH, round(CELL_WIDTH * TALLEST)))
    return picture


def _subtitle(answer: Answer) -> str:
    models = ", ".join(f"{stage.name}: {stage.model}" for stage in answer.stages if stage.ran and stage.model)
    return (
        f"{Path(answer.video).name}  {answer.duration_seconds:.1f} s   {plural(len(answer.spans), 'span')}   {models}"
    )


def _fallbacks(answer: Answer) -> list[str]:
    return [f"{s.name} fell back: {s.fallback_reason}" for s in answer.stages if s.fallback_reason]


def _draw_timeline(draw: ImageDraw, answer: Answer, *, top: int, width: int, font: FreeTypeFont | ImageFont) -> None:
    left, right = MARGIN, width - MARGIN

    def at(seconds: float) -> int:
        return left + round((right - left) * min(1.0, seconds / max(answer.duration_seconds, 1e-9)))

    draw.rectangle((left, top, right, top + 8), fill=TRACK)
    for span in answer.spans:
        draw.rectangle(
            (at(span.start_seconds), top, max(at(span.start_seconds) + 1, at(span.end_seconds)), top + 8), SPAN
        )
    for frame in answer.frames:
        draw.line((at(frame.seconds), top - 3, at(frame.seconds), top + 11), fill=MARK, width=1)
    draw.text((left, top + 11), "0 s", font=font, fill=FAINT)
    end = f"{answer.duration_seconds:.1f} s"
    draw.text((right - draw.textlength(end, font=font), top + 11), end, font=font, fill=FAINT)


def _draw_cell(
    sheet: PILImage,
    draw: ImageDraw,
    frame: AnswerFrame,
    picture: PILImage | None,
    *,
    at: tuple[int, int],
    height: int,
    font: FreeTypeFont | ImageFont,
) -> None:
    x, y = at
    draw.rectangle((x, y, x + CELL_WIDTH - 1, y + height - 1), fill=TRACK)
    if picture is None:
        draw.text((x + MARGIN, y + height // 2), "cannot be decoded now", font=font, fill=INK)
    else:
        sheet.paste(picture, (x + (CELL_WIDTH - picture.width) // 2, y + (height - picture.height) // 2))
    draw.text((x, y + height + 3), f"{frame.seconds:.2f} s   frame {frame.frame_number}", font=font, fill=INK)
    scores = [] if frame.gens_score is None else [f"GenS {frame.gens_score}"]
    scores += [] if frame.clip_similarity is None else [f"CLIP {frame.clip_similarity:.3f}"]
    draw.text((x, y + height + 20), "   ".join(scores), font=font, fill=FAINT)

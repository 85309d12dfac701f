"""A picture of the answers of a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from passerby.commands.galleries import GalleryAnswer, describe_time
from passerby.commands.gallery_sources import cut_box
from passerby.commands.searching import MOST_DRAWN
from passerby.data.decoding import Pixels, decode, decode_bytes
from passerby.gallery import GalleryRows
from passerby.report.figure_files import require_ending, save_figure
from passerby.report.list_figures import Strip, draw_strips
from passerby.report.ranked_lists import ListImage, RankedList
from passerby.types import UNKNOWN


def draw_gallery_answers(answers: Sequence[GalleryAnswer], path: Path) -> None:
    """Write a picture with a row for each of the first 50 queries; thumbnails stand for files that are gone.

    Raises:
        UserError: an ending that is no kind of picture.

    """
    require_ending(path)
    save_figure(draw_strips([_strip(answer) for answer in answers[:MOST_DRAWN]]), path)


def _strip(answer: GalleryAnswer) -> Strip:
    covers, shots = {}, []
    for row, distance in enumerate(answer.distance.tolist()):
        name = str(answer.rows.path[row])
        cover = _cover(answer.rows, row)
        if cover is not None:
            name = f"id {answer.rows.id[row]}"
            covers[name] = cover
        shots.append(ListImage(name, UNKNOWN, UNKNOWN, row + 1, "found", caption=_caption(answer.rows, row, distance)))
    query = ListImage(answer.query, UNKNOWN, UNKNOWN, 0, "query")
    count = f"{len(shots) or 'no'} row{'' if len(shots) == 1 else 's'}"
    words = f"{Path(answer.query).name}: {count} by cosine distance".replace("$", r"\$")
    return Strip(RankedList(query, tuple(shots), (), len(shots)), words, covers=covers)


def _caption(rows: GalleryRows, row: int, distance: float) -> str:
    time = describe_time(None if np.isnan(rows.time[row]) else float(rows.time[row]))
    known = [f"{row + 1}:  {distance:.3f}", str(rows.identity[row]), str(rows.camera[row]), time[5:16]]
    return "\n".join(text.replace("$", r"\$") for text in known if text)


def _cover(rows: GalleryRows, row: int) -> Pixels | None:
    """Return what is drawn in place of the image file: its thumbnail where it is gone, or the box in it."""
    path, box = Path(str(rows.path[row])), rows.box[row].tolist()
    if not path.is_file():
        thumbnail = rows.thumbnails[row] if rows.thumbnails else b""
        return decode_bytes(thumbnail) if thumbnail else None
    return None if np.isnan(box).any() else cut_box(decode(path), box)

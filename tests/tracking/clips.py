"""Drawn clips: people of plain colours who walk through a noisy frame, and a model that sees their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import draw_person

WIDTH, HEIGHT = 160, 96


def box_of(person: int, frame: int) -> tuple[int, int, int, int]:
    """Return x, y, w, h of a person, who walks 2 pixels a frame."""
    return 4 + (37 * person + 2 * frame) % (WIDTH - 40), 16 + 3 * person, 32, 64


def draw_frame(frame: int, people: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    generator = np.random.default_rng(frame)
    pixels = generator.integers(100, 140, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for person, (x, y, _, _) in people.items():
        crop = draw_person(person, generator)
        height, width = max(min(64, HEIGHT - y), 0), max(min(32, WIDTH - x), 0)
        pixels[y : y + height, x : x + width] = crop[:height, :width]
    return pixels


def people_of(frame: int, presence: dict[int, range]) -> dict[int, tuple[int, int, int, int]]:
    return {person: box_of(person, frame) for person, frames in presence.items() if frame in frames}


PRESENCE = {1: range(1, 13), 2: range(5, 21), 3: range(16, 25)}


def lines_of(presence=PRESENCE, frames: int = 24) -> list[str]:
    """Return MOT lines in the order of frames."""
    return [
        f"{frame},{person},{x},{y},{w},{h},1,1,1"
        for frame in range(1, frames + 1)
        for person, (x, y, w, h) in people_of(frame, presence).items()
    ]


def write_mot(folder: Path, *, presence=PRESENCE, frames: int = 24, rate: float = 10, images: bool = True) -> Path:
    """Write a MOT folder with ground truth."""
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("\n".join(lines_of(presence, frames)) + "\n")
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={rate}\n")
    if images:
        (folder / "img1").mkdir()
        for frame in range(1, frames + 1):
            Image.fromarray(draw_frame(frame, people_of(frame, presence))).save(folder / "img1" / f"{frame:06d}.jpg")
    return folder


def write_video(file: Path, *, presence=PRESENCE, frames: int = 24, rate: int = 10) -> Path:
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 2_000_000
        for frame in range(1, frames + 1):
            image = av.VideoFrame.from_ndarray(draw_frame(frame, people_of(frame, presence)), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return file


class Colours:
    """A model whose vector is the crop's mean colours of coat and trousers; it counts and can be killed."""

    recipe, feature, flip, device, notes = None, "colours", False, "cpu", ()

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls = 0
        self.fail_at = fail_at

    def embed(self, images, *, cam=None):
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        rows = []
        for image in images:
            height = len(image)
            parts = [image[height // 6 : height // 2], image[height * 6 // 10 : height * 9 // 10]]
            middle = slice(image.shape[1] // 3, image.shape[1] * 2 // 3)
            rows.append(np.concatenate([part[:, middle].mean(axis=(0, 1)) for part in parts]) - 120)
        return np.array(rows, np.float32)

"""A worker that loads no network: the vector of an image is its mean colour."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from passerby.scale.blocks import BlockResult, Workers
from passerby.scale.embedding import embed_parts
from passerby.scale.session import ray_session
from passerby.types.listed import ListedImages
from passerby.types.parts import write_part

STAMPS = {"model": "light 0", "dataset": "", "feature": "", "flip": False, "input_mask": "none"}


def mean_colours(paths):
    return np.stack([np.asarray(Image.open(path)).mean((0, 1)) for path in paths]).astype(np.float32)


class LightWorker:
    """Embeds blocks, unless its settings let it end.

    Settings: `folder` of the parts; `kill` = a file, at whose block the process is killed `times` times; `wait` =
    seconds of each block.
    """

    def __init__(self, settings):
        self.settings = settings

    def embed(self, block):
        images, settings = block.images, self.settings
        time.sleep(settings.get("wait", 0))
        if settings.get("kill") in [Path(path).name for path in images.path]:
            marks = len(list(settings["marks"].glob("*")))
            if marks < settings["times"]:
                (settings["marks"] / str(marks)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        table = images.table(mean_colours(images.path), np.arange(len(images)))
        write_part(settings["folder"] / block.name, table, [])
        return BlockResult("here")


def listed(folder):
    paths = np.array(sorted(map(str, folder.glob("*.png"))))
    cam = np.arange(len(paths)) % 3
    return ListedImages(paths, np.full(len(paths), -1), cam, np.full(len(paths), ""), np.full(len(paths), -1))


def embed(ray, images, folder, settings=None, **options):
    settings = {"folder": folder} | (settings or {})
    with ray_session("local"):
        embed_parts(ray, images, Workers(LightWorker, settings, folder), STAMPS, size=4, notify=print, **options)

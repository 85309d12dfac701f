"""Data, stages and model of a recipe, with all checks before the first step."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from passerby.data.joining import number_cameras
from passerby.data.samplers.sampler import SamplerSettings
from passerby.data.transforms import mix_seeds
from passerby.device import Precision, find_device
from passerby.errors import UserError
from passerby.inference.embed import DTYPES, View, masked_view
from passerby.inference.tested import tested_split, tested_view
from passerby.models.embedder import Embedder
from passerby.models.groups import batch_norms
from passerby.published.starts import load_start
from passerby.recipe import EngineSettings, Recipe, StageSettings
from passerby.scorable import require_rerankable, require_scorable
from passerby.threads import Threads, fixed_threads, make_threads
from passerby.training import distributed
from passerby.training.frozen import require_trainable
from passerby.training.norms import set_norm_statistics
from passerby.training.plan import require_batch, require_cameras
from passerby.training.precision import choose_arithmetic
from passerby.training.probe import Arithmetic
from passerby.training.resume import fingerprints
from passerby.training.stages import learnt_cameras, make_stage, number_stage, require_apart, require_masks
from passerby.types import Dataset, Split, Stage, require_known_cameras

COMPILERS = ("g++", "clang++", "c++")
"""Programs that torch.compile can call on a CPU."""


@dataclass(frozen=True, eq=False)
class Setup:
    """The parts of a run that do not change during training.

    Attributes:
        recipe, folder: what runs and where it writes.
        device: of the model.
        arithmetic: precision of the network and layout of its maps in memory.
        datasets: all that are read, by name.
        stages: of the run in order, without what methods add.
        threads: of the processor; their count changes with its load.
        images: fingerprints of the training images by data set.
        probe_note: how the arithmetic was chosen, where it was measured.

    """

    recipe: Recipe
    folder: Path
    device: torch.device
    arithmetic: Arithmetic
    datasets: dict[str, Dataset]
    stages: list[Stage]
    threads: Threads = field(default_factory=lambda: fixed_threads(torch.get_num_threads()))
    images: dict[str, str] = field(default_factory=dict)
    probe_note: str = ""

    @property
    def precision(self) -> Precision:
        """The precision of the network."""
        return self.arithmetic.precision

    @property
    def machine(self) -> dict[str, str]:
        """Device, precision and processes, on which the last digits of all figures depend."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "processes": str(distributed.world()),
        }

    def autocast(self) -> torch.autocast:
        """Return the block in which the network runs in the precision of the run."""
        return torch.autocast(self.device.type, DTYPES.get(self.precision), enabled=self.precision != "float32")

    def view(self, split: Split, *, stage: int) -> View:
        """Return the view of the training images of a stage, from 0, without augmentation."""
        return masked_view(split.masks, self.recipe.stages[stage].input_mask)


def make_setup(
    recipe: Recipe,
    folder: Path,
    *,
    weights: Literal["as the recipe says", "from a checkpoint"] = "as the recipe says",
    arithmetic: Arithmetic | None = None,
) -> tuple[Setup, Embedder]:
    """Read the data, build the model, and run all checks before the first step.

    Args:
        recipe: what runs.
        folder: where it writes.
        weights: where the model's come from; a checkpoint brings its own, so no file is read.
        arithmetic: what a run that is resumed has computed in.

    Raises:
        UserError: data or weights that are not there, or settings that this machine or this data cannot serve.

    """
    if weights != "from a checkpoint":  # a finished stage needs its files no more
        _require_files(recipe)
    learnt = dict.fromkeys(name for stage in recipe.stages for name in stage.shown)
    names = dict.fromkeys((*learnt, *recipe.tested))
    datasets = {name: recipe.open_dataset(name) for name in names}
    require_apart(datasets, trained=learnt, tested=recipe.tested)
    stages = [make_stage(settings, datasets) for settings in recipe.stages]
    cameras = learnt_cameras(stages)
    stages = [number_stage(stage, cameras) for stage in stages]
    datasets = {name: number_cameras(dataset, cameras) for name, dataset in datasets.items()}
    for name in recipe.tested:
        require_scorable(
            datasets[name],
            recipe.test.rules,
            ignore="test.cameras=ignore",
            without="evaluate=[] to train without a test",
        )
        if recipe.test.rerank is not None:
            require_rerankable(datasets[name], recipe.test.rerank.parameters)
        tested_view(datasets[name], recipe.input_mask)
    for settings, stage in zip(recipe.stages, stages, strict=True):
        if settings.foreground.use != "none":
            require_masks(stage.train, stage.name)
        if stage.labelled:
            require_batch(stage, settings.data.sampler)
    require_cameras([(stage, settings.data.sampler) for settings, stage in zip(recipe.stages, stages, strict=True)])
    batches = [_count_images(settings.data.sampler) for settings in recipe.stages]
    for batch in batches:
        _require_whole_groups(recipe.engine, batch)
    device = choose_device(recipe.engine)
    if recipe.engine.compile:
        _require_compiler(device)
    torch.manual_seed(mix_seeds(recipe.engine.seed))
    embedder = Embedder(
        recipe.model,
        recipe.input,
        load=recipe.init_from is None and weights != "from a checkpoint",
        loader=partial(load_start, model=recipe.model, size=recipe.input.size),
        cameras=cameras,
    ).to(device)
    _require_known_cameras(embedder, stages, [datasets[name] for name in recipe.tested])
    weighted = recipe.input_mask == "weighted" or any(s.foreground.use == "pool" for s in recipe.stages)
    if embedder.backbone.pools_itself and weighted:
        raise UserError(
            f"foreground: {recipe.model.backbone!r} pools its own tokens, so no mask can weight them; use mask or "
            "swap, which change the images"
        )
    for settings in recipe.stages:
        require_trainable(settings, embedder)
    fixed = next((s.optim.batch_norm for s in recipe.stages if s.optim.batch_norm != "train"), None)
    if fixed is not None and not batch_norms(embedder):
        raise UserError(f"optim.batch_norm: {fixed} has no effect: this model has no batch norm; leave it out")
    _require_norms(recipe.engine, embedder, device)
    for settings, batch in zip(recipe.stages, batches, strict=True):
        if batch == 1:
            _require_no_statistics(recipe, settings, embedder)
    embedder = set_norm_statistics(embedder, recipe.engine)
    choice = choose_arithmetic(recipe.engine, device, embedder, batch=batches[0], earlier=arithmetic)
    if choice.arithmetic.channels_last:
        embedder = embedder.to(memory_format=torch.channels_last)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", distributed.world()))
    threads = make_threads(recipe.engine.threads, device=device.type, processes=processes)
    setup = Setup(
        recipe,
        folder,
        device,
        choice.arithmetic,
        datasets,
        stages,
        threads=threads,
        images=fingerprints(datasets, learnt),
        probe_note=choice.note,
    )
    return setup, embedder


def _require_files(recipe: Recipe) -> None:
    """Raise `UserError` for a file of a method that does not exist, which a later stage would miss hours later."""
    for stage in recipe.stages:
        for name, method in stage.active.items():
            for setting in method.files:
                place = getattr(method, setting)
                if place is not None and not Path(place).exists():
                    raise UserError(f"method.{name}.{setting}: there is no file or folder {place}")


def _require_known_cameras(embedder: Embedder, stages: Sequence[Stage], tested: Sequence[Dataset]) -> None:
    """Raise `UserError` for images of unknown cameras that the model would refuse hours later."""
    shown = [(stage.name, stage.train.cam_row) for stage in stages]
    shown += [(dataset.name, tested_split(dataset).cam_row) for dataset in tested]
    for name, rows in shown:
        require_known_cameras(rows, embedder.cameras, unknown=embedder.backbone.unknown_camera, source=name)


def _require_whole_groups(engine: EngineSettings, batch: int) -> None:
    group = engine.ghost_batch_size
    if group is not None and batch % group:
        raise UserError(
            f"engine.ghost_batch_size is {group}, which does not divide the {batch} images that each process sees at "
            "once"
        )


def _require_norms(engine: EngineSettings, embedder: Embedder, device: torch.device) -> None:
    if engine.batch_norm == "synchronised" and device.type == "cpu":
        raise UserError("engine.batch_norm: synchronised works on GPUs only; set it to local")
    if engine.ghost_batch_size is not None and not batch_norms(embedder):
        raise UserError("engine.ghost_batch_size: this model has no batch norm; leave it out")


def _require_compiler(device: torch.device) -> None:
    """Raise `UserError` without the compiler that torch.compile calls at the first step."""
    if device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise UserError(
            f"engine.compile: torch.compile needs a C++ compiler, and none of {', '.join(COMPILERS)} is installed; "
            "install one (on Debian: apt install g++), or leave engine.compile out"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError("engine.compile: torch.compile on a GPU needs triton; pip install triton, or leave it out")


def _count_images(sampler: SamplerSettings) -> int:
    """Return the number of images of a batch in each process."""
    columns = sampler.columns(rank=distributed.rank(), world=distributed.world())
    return int(columns.stop - columns.start)


def _require_no_statistics(recipe: Recipe, settings: StageSettings, embedder: Embedder) -> None:
    """Raise `UserError` when batch norms would take their statistics from one image."""
    learning = settings.optim.batch_norm == "train"
    if learning and recipe.engine.batch_norm == "local" and batch_norms(embedder):
        sampler, world = settings.data.sampler, distributed.world()
        raise UserError(
            f"each of {world} processes sees one image of a batch of {sampler.batch_size} (data.sampler), and a batch "
            "norm needs two or more; make the batch larger, use fewer processes, or set engine.batch_norm to "
            "synchronised (GPUs) or optim.batch_norm to freeze_stats"
        )


def choose_device(engine: EngineSettings) -> torch.device:
    """Return the device that the settings name, or the best there is.

    Raises:
        UserError: a GPU that torch does not see, or one GPU by its number for several processes.

    """
    if ":" in engine.device and distributed.world() > 1:
        raise UserError(
            f"engine.device is {engine.device!r}, one GPU, but there are {distributed.world()} processes, each of "
            "which takes a GPU of its own; set it to cuda or auto"
        )
    try:
        return find_device(engine.device)
    except UserError as error:
        raise UserError(f"engine.device: {error}") from error

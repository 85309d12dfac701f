"""The state of a run: the model, what teaches it, and where in which stage it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from passerby.data.datasets import without_mask
from passerby.data.transforms import mix_seeds
from passerby.errors import UserError, first_line
from passerby.evaluation import evaluate
from passerby.extract import DTYPES, View, extract, label_vectors, masked_view, tested_paths, tested_view
from passerby.inference import Precision
from passerby.losses.mix import LossMix, Term
from passerby.methods.part import Gathering, Part, Teacher, Vectors
from passerby.models.embedder import Embedder, load_state
from passerby.models.pooling import Pool
from passerby.optim import make_average, make_optimiser
from passerby.recipe import Recipe
from passerby.reliance import Reliance, measure_reliance
from passerby.threads import Threads, fixed_threads
from passerby.train import distributed
from passerby.train.apart import restore_own, states_apart
from passerby.train.checkpoint import Checkpoint, save_checkpoint
from passerby.train.fit import require_losses, require_optimiser, require_place, require_state, take_over
from passerby.train.journal import DrawnRecord, FindingRecord
from passerby.train.looking import look
from passerby.train.norms import set_norm_statistics
from passerby.train.start import read_start
from passerby.types import Batch, Dataset, Embeddings, Output, Rerank, Scores, Split, Stage


@dataclass(eq=False)
class Run:
    """Everything that changes while a run goes on; `methods.part.RunState` is the part of it that methods see.

    Attributes:
        recipe, folder: what runs and where it writes.
        datasets, stages: what is read, by name, and what is learnt, in order.
        stage: the present one of them, with what parts add to it.
        embedder: the model; it lives through all stages.
        images: fingerprints of the training images by data set.
        averaged: the running mean of its weights where the present stage keeps one; it lives on when the next one does.
        losses, optimiser, scaler: made anew for each stage.
        parts: all that any stage so far has named, and of those to come what the run started with; they live on.
        teacher: the model as the stage before left it, while a part of the present stage asks for it.
        stage_number, epoch, iteration: what comes next, each from 0; the iteration counts batches in the epoch.
        ended: whether the parts have had their last word in the present stage.
        labels: (N,) or (N, V) labels of the present epoch.
        classes: how many people the losses know.
        looked: what models make of the images of the stage, by their ids, while an epoch is prepared; else None.
        sums: of each loss term in the present epoch: the sums of its values and of what was added, the latest weight.
        drawn: what the plan of the present epoch draws of each data set; made with the plan, also after a resume.
        follow: called with what parts find.
        threads: how many compute.
        channels_last: the layout of maps in memory.
        probed: how precision and layout were chosen, where they were measured.

    """

    recipe: Recipe
    folder: Path
    device: torch.device
    precision: Precision
    datasets: dict[str, Dataset]
    stages: list[Stage]
    embedder: Embedder
    stage: Stage = field(init=False)
    losses: LossMix = field(init=False)
    parts: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    teacher: Teacher | None = None
    optimiser: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    averaged: AveragedModel | None = None
    stage_number: int = 0
    epoch: int = 0
    iteration: int = 0
    ended: bool = False
    labels: Tensor | None = None
    classes: int = 1
    looked: dict[int, Vectors] | None = None
    sums: dict[str, list[float]] = field(default_factory=dict)
    drawn: dict[str, DrawnRecord] = field(default_factory=dict)
    follow: Callable[[FindingRecord], None] | None = None
    channels_last: bool = True
    probed: str = ""
    threads: Threads = field(default_factory=lambda: fixed_threads(torch.get_num_threads()))
    images: dict[str, str] = field(default_factory=dict)

    @property
    def all_parts(self) -> dict[str, Part]:
        """All parts there are, speaking or not, by name."""
        return {name: cast("Part", part) for name, part in self.parts.items()}

    @property
    def speaking_parts(self) -> list[Part]:
        """The parts of the present stage, in the recipe's order; who makes labels is silent where they are known."""
        settings = self.recipe.stages[self.stage_number]
        named = [cast("Part", self.parts[name]) for name in settings.method.chosen]
        return [part for part in named if not (settings.labelled and (part.makes_labels or part.unlabelled_only))]

    @property
    def over(self) -> bool:
        """Whether the present stage is at its end, by its epochs or because a part has had enough."""
        between = self.epoch > 0 and self.iteration == 0
        enough = between and any(part.had_enough for part in self.speaking_parts)
        return enough or self.epoch >= self.recipe.stages[self.stage_number].epochs

    @property
    def modules(self) -> list[nn.Module]:
        """All that learns or remembers."""
        return [self.embedder, self.losses, self.parts]

    @property
    def followers(self) -> list[nn.Module]:
        """All that follows what is learnt, or stands still beside it."""
        return [module for module in (self.averaged, self.teacher) if module is not None]

    @property
    def _stateful(self) -> dict[str, nn.Module]:
        found = {"embedder": self.embedder, "losses": self.losses, "parts": self.parts}
        beside = {"averaged": self.averaged, "teacher": self.teacher}
        return {**found, **{name: module for name, module in beside.items() if module is not None}}

    @property
    def tested(self) -> Embedder:
        """The model that is scored and kept: the running mean where there is one."""
        if self.averaged is None:
            return self.embedder
        assert isinstance(self.averaged.module, Embedder)
        return self.averaged.module

    @property
    def models(self) -> list[Embedder]:
        """The model that is trained and, where it is another, the one that is scored."""
        return [self.embedder] if self.averaged is None else [self.embedder, self.tested]

    @property
    def machine(self) -> dict[str, str]:
        """What the last digits of all figures depend on, in words."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "processes": str(distributed.world()),
        }

    @property
    def seed(self) -> int:
        """What everything random in a part is a function of."""
        return mix_seeds(self.recipe.engine.seed, self.stage_number)

    def open_stage(self, number: int) -> None:
        """Begin a stage: make its losses and optimiser, wake its parts; the model is kept."""
        start = (
            None
            if self.recipe.init_from is None or number > 0
            else read_start(Path(self.recipe.init_from), self.recipe)
        )
        if start is not None:
            load_state(self.embedder, start.embedder, source=f"init_from: {self.recipe.init_from}")
        self._wake(number)
        if start is not None:
            self._take_over(start.parts)
            self._require_own_images()
            self._require_memories()
        self._enter(number)
        for part in self.speaking_parts:
            part.begin(self, self.stage)
        self._equip()

    def _wake(self, number: int) -> None:
        """Make the parts that a stage names and that no stage before it has, and give all of its parts its settings."""
        self.stage_number = number
        for name, chosen in self.recipe.stages[number].method.chosen.items():
            if name not in self.parts:
                self.parts[name] = chosen.make()
            cast("Part", self.parts[name]).settings = chosen

    def _enter(self, number: int, *, widened: bool = True) -> None:
        """Make what a stage is made of, once its parts remember the stages before it and before they begin."""
        self.stage_number, self.epoch, self.iteration, self.ended = number, 0, 0, False
        self.labels, self.sums = None, {}
        torch.manual_seed(self.seed)
        self.stage = self.stages[number]
        for part in self.speaking_parts if widened else ():
            self.stage = part.widen(self, self.stage)
        self.make_losses(max(1, self.stage.classes))
        has_past = number > 0 or self.recipe.init_from is not None
        asked = has_past and any(part.wants_teacher for part in self.speaking_parts)
        self.teacher = Teacher(self.tested) if asked else None

    def make_losses(self, classes: int) -> None:
        """Make the losses of the stage for so many people."""
        settings = self.recipe.stages[self.stage_number]
        self.classes = classes
        self.losses = LossMix(settings.losses, dimension=self.embedder.dimension, classes=classes)
        self.losses.to(self.device)

    def _take_over(self, state: dict[str, Tensor]) -> None:
        """Give the parts of all stages what they remembered elsewhere; those that were not there stay as they are."""
        known = {key.split(".")[0] for key in state}
        for stage in self.recipe.stages:
            for name, chosen in stage.method.chosen.items():
                if name in known and name not in self.parts:
                    self.parts[name] = chosen.make()
        for name, part in self.parts.items():
            mine = {key.removeprefix(f"{name}."): v for key, v in state.items() if key.startswith(f"{name}.")}
            if mine:
                cast("Part", part).make_room(self, mine)
                try:
                    part.load_state_dict(mine)
                except RuntimeError as error:
                    raise UserError(f"method.{name}: what is remembered does not fit ({first_line(error)})") from error

    def _require_own_images(self) -> None:
        for name, part in self.all_parts.items():
            if part.stored_images:
                raise UserError(
                    f"init_from: method.{name} keeps {part.stored_images:,} images of the stages of "
                    f"{self.recipe.init_from}, which this run does not read; learn all stages in one "
                    f"recipe, or leave out method.{name}"
                )

    def _require_memories(self) -> None:
        for name in self.recipe.stages[0].method.chosen:
            if self.all_parts[name].hollow:
                raise UserError(
                    f"init_from: the run in {self.recipe.init_from} left nothing that method.{name} could hold on to; "
                    f"start from a run whose method has it, or leave it out of the first stage"
                )

    def _equip(self) -> None:
        """Make the optimiser of a stage whose parts are ready."""
        settings = self.recipe.stages[self.stage_number]
        self.parts.to(self.device)
        for part in self.speaking_parts:
            set_norm_statistics(part, self.recipe.engine)
        distributed.share_state(self.modules)
        self._average(settings.optim.ema_decay)
        self.optimiser = self._make_optimiser()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def _make_optimiser(self) -> torch.optim.Optimizer:
        settings = self.recipe.stages[self.stage_number].optim
        of_parts = (p for part in self.speaking_parts for p in part.undecayed)
        pools = (m for module in self.modules for m in module.modules() if isinstance(m, Pool))  # of all networks
        undecayed = [*self.losses.undecayed, *(p for pool in pools for p in pool.parameters()), *of_parts]
        return make_optimiser(settings, self.modules, undecayed=undecayed)

    def renew_optimiser(self) -> None:
        """Make the optimiser for what learns now; it keeps what it knew of whatever learnt before."""
        self.parts.to(self.device)
        distributed.share_state([self.losses, self.parts])
        known = self.optimiser.state
        self.optimiser = self._make_optimiser()
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                if parameter in known:
                    self.optimiser.state[parameter] = known[parameter]

    def vectors(self, model: Embedder | None = None) -> Vectors:
        """Embed all training images of the stage, by the model that is trained unless another is given."""
        model = self.embedder if model is None else model
        known = {} if self.looked is None else self.looked
        if id(model) not in known:
            train = self.stage.train
            known[id(model)] = look(model, train.path, autocast=self.autocast(), view=self.view(train))
        return known[id(model)]

    def see(self, batch: Batch) -> Output:
        """Return what the model answers to a batch, with a graph."""
        with self.autocast():
            out: Output = self.embedder(batch.images, batch.mask)
        return out

    def judge(self, batch: Batch, out: Output) -> dict[str, Term]:
        """Return what the losses say of an answer, in float32 and over the batches of all processes."""
        local = self.recipe.engine.mining == "local"
        seen, labels = (out, batch.people) if local else distributed.gather(out, batch.people)
        terms: dict[str, Term] = self.losses(seen, labels)
        return terms

    def rehearse(self, batch: Batch) -> dict[str, Term]:
        """Return what the losses, and the parts that ask the teacher, say of a batch that a part has made."""
        out = self.see(batch)
        terms = self.judge(batch, out)
        for part in self.speaking_parts:
            if part.wants_teacher:
                terms |= part.terms(self, batch, out)
        return terms

    def autocast(self) -> torch.autocast:
        """Return the block in which the network runs in the precision of the run."""
        return torch.autocast(self.device.type, DTYPES.get(self.precision), enabled=self.precision != "float32")

    def view(self, split: Split) -> View:
        """Return how training images are shown where nothing is augmented."""
        return masked_view(split.masks, self.recipe.learnt_pixels)

    def tell(self, part: str, values: dict[str, float], *, note: str = "") -> None:
        """Hand figures that a part found, and what a person should know of them, to whoever follows the run."""
        if self.follow is not None:
            self.follow(FindingRecord(self.stage_number + 1, self.epoch, part, values, note))

    def _average(self, decay: float | None) -> None:
        """Begin a running mean, or go on with that of the stage before at the decay of this one."""
        earlier = self.averaged
        self.averaged = None if decay is None else make_average(self.embedder, decay=decay)
        if earlier is not None and self.averaged is not None:
            self.averaged.load_state_dict(earlier.state_dict())

    def save(self) -> None:
        """Write `last.pt`, from which the run goes on bit for bit; all processes call it."""
        processes = states_apart(self._stateful, self.sums) if self.iteration else []
        if distributed.rank() != 0:
            return
        checkpoint = Checkpoint(
            recipe=self.recipe.dump(),
            stage=self.stage_number,
            epoch=self.epoch,
            iteration=self.iteration,
            ended=self.ended,
            embedder=self.embedder.state_dict(),
            averaged=None if self.averaged is None else self.averaged.state_dict(),
            losses=self.losses.state_dict(),
            parts=self.parts.state_dict(),
            teacher=None if self.teacher is None else self.teacher.state_dict(),
            optimiser=self.optimiser.state_dict(),
            scaler=self.scaler.state_dict(),
            labels=self.labels,
            classes=self.classes,
            sums=self.sums,
            threads=self.threads.settled,
            precision=self.precision,
            channels_last=self.channels_last,
            images=self.images,
            machine=self.machine,
            processes=processes,
        )
        save_checkpoint(checkpoint, self.folder / "last.pt")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written.

        Raises:
            UserError: it does not fit the run; nothing of it but what the parts remembered has been loaded then.

        """
        for number in range(checkpoint.stage + 1):  # parts of earlier stages remember too
            self._wake(number)
        take_over(checkpoint.parts, self._take_over)
        self._enter(checkpoint.stage, widened=not checkpoint.ended)
        settings, data = self.recipe.stages[checkpoint.stage], self.recipe.data
        require_place(checkpoint, self.stage, data, accumulate=self.recipe.engine.grad_accum_steps)
        if checkpoint.classes is not None:
            if not checkpoint.ended:
                losses, dimension = settings.losses, self.embedder.dimension
                require_losses(checkpoint, losses, dimension=dimension, classes=checkpoint.classes)
            self.make_losses(checkpoint.classes)
        self._equip()
        states = self._states(checkpoint)
        for name, (module, state) in states.items():
            require_state(state, module.state_dict(), what=name)
        if not checkpoint.ended:  # a stage that has ended teaches no more, and its parts remember more than they had
            require_optimiser(checkpoint.optimiser, self.optimiser)
            self.optimiser.load_state_dict(checkpoint.optimiser)
            if self.scaler.is_enabled() and checkpoint.scaler:
                self.scaler.load_state_dict(checkpoint.scaler)
        for module, state in states.values():
            module.load_state_dict(state)
        self.epoch, self.iteration, self.ended = checkpoint.epoch, checkpoint.iteration, checkpoint.ended
        self.labels, self.sums = checkpoint.labels, checkpoint.sums
        if checkpoint.threads is not None:
            self.threads.go_on_with(checkpoint.threads)
        if distributed.rank() < len(own := checkpoint.processes or []):
            restore_own(own[distributed.rank()], self._stateful, self.sums)

    def _states(self, checkpoint: Checkpoint) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
        """Return the modules that a checkpoint fills, with what it has for each."""
        found = {
            "embedder": (self.embedder, checkpoint.embedder),
            "teacher": (self.teacher, checkpoint.teacher),
            "running mean": (self.averaged, checkpoint.averaged),
            "losses": (None if checkpoint.ended else self.losses, checkpoint.losses),
        }
        for name, (module, state) in found.items():
            if module is not None and state is None:
                raise UserError(f"last.pt does not fit the run: it holds no {name}")
        return {name: (m, state) for name, (m, state) in found.items() if m is not None and state is not None}

    def embed(self, name: str, view: View | None = None, *, model: Embedder | None = None) -> Embeddings:
        """Embed query and gallery of a data set; each process embeds its share and all know the whole.

        Args:
            name: of the data set.
            view: what the model is shown of each image; None = what the recipe says.
            model: which one; None = the one that is scored and kept.

        """
        dataset, test = self.datasets[name], self.recipe.test
        paths, view = tested_paths(dataset), view or tested_view(dataset, self.recipe.pixels)
        mine = slice(distributed.rank(), None, distributed.world())
        vectors = extract(
            self.tested if model is None else model,
            paths[mine],
            feature=test.feature,
            flip=test.flip,
            precision=self.precision,
            view=view.part(mine),
        )
        joined = distributed.gather_rows(torch.from_numpy(vectors).to(self.device), count=len(paths))
        return label_vectors(joined.cpu().numpy(), dataset, feature=test.feature, flip=test.flip, pixels=view.word)

    def reliance(self, name: str, tested: Embeddings) -> Reliance | None:
        """Measure what the background gives away; None where the recipe or missing masks leave it out."""
        dataset, test = self.datasets[name], self.recipe.test
        bare, _ = without_mask((dataset.query, dataset.gallery))
        if test.reliance == "off" or bare:
            return None
        return measure_reliance(
            dataset, tested, embed=lambda view: self.embed(name, view), score=self.score, cameras=test.cameras
        )

    def score(self, embeddings: Embeddings, *, rerank: Rerank | None = None) -> Scores:
        """Score embeddings by the recipe's protocol."""
        test = self.recipe.test
        return evaluate(
            embeddings,
            cameras=test.cameras,
            queries=test.queries,
            distance=test.distance,
            rerank=rerank,
            device=self.device.type,
        )

    def scores(self, model: Embedder) -> dict[str, Scores]:
        """Score a model, not re-ranked, on every data set that the recipe tests."""
        found = {name: self.embed(name, model=model) for name in self.recipe.tested}
        return {embeddings.dataset: self.score(embeddings) for embeddings in found.values()}

    def gather(self, *rows: Tensor, use: Gathering = "memory") -> tuple[Tensor, ...]:
        """Join what each of several processes holds of a batch, unless it is for mining that the recipe keeps local."""
        alone = use == "mining" and self.recipe.engine.mining == "local"
        return rows if alone else distributed.gather_batch(rows)

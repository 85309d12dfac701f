"""The state of a run: the model, what teaches it, and where in which stage it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from passerby.background_bias import BackgroundBias, measure_background_bias
from passerby.data.datasets import without_mask
from passerby.data.transforms import mix_seeds
from passerby.errors import UserError, first_line
from passerby.evaluation import evaluate
from passerby.extract import DTYPES, View, extract, label_vectors, masked_view, tested_paths, tested_view
from passerby.inference import Precision
from passerby.losses.mix import LossMix, LossTerm
from passerby.methods.method import Gathering, Method, PreviousModel, Vectors
from passerby.models.embedder import Embedder, load_state
from passerby.models.pooling import Pool
from passerby.optim import make_average, make_optimiser
from passerby.recipe import Recipe
from passerby.threads import Threads, fixed_threads
from passerby.train import distributed
from passerby.train.apart import restore_own, states_apart
from passerby.train.checkpoint import Checkpoint, save_checkpoint
from passerby.train.fit import require_losses, require_optimiser, require_place, require_state, take_over
from passerby.train.looking import look
from passerby.train.norms import set_norm_statistics
from passerby.train.run_log import DrawnRecord, MetricRecord
from passerby.train.start import read_start
from passerby.types import Batch, Dataset, Embeddings, Output, Rerank, Scores, Split, Stage


@dataclass(eq=False)
class Run:
    """Everything that changes while a run goes on; `methods.method.MethodContext` is the method of it that methods see.

    Attributes:
        recipe, folder: what runs and where it writes.
        datasets, stages: what is read, by name, and what is learnt, in order.
        stage: the present one of them, with what methods add to it.
        embedder: the model; it lives through all stages.
        images: fingerprints of the training images by data set.
        averaged: the running mean of its weights where the present stage keeps one; it lives on when the next one does.
        losses, optimiser, scaler: made anew for each stage.
        methods: all that any stage so far has named, and of those to come what the run started with; they live on.
        previous_model: the model as the stage before left it, while a method of the present stage asks for it.
        stage_number, epoch, iteration: what comes next, each from 0; the iteration counts batches in the epoch.
        ended: whether the methods have had their last word in the present stage.
        labels: (N,) or (N, V) labels of the present epoch.
        classes: how many people the losses know.
        embedding_cache: vectors of the images of the stage by the id of a model, while an epoch is prepared; else None.
        sums: of each loss term in the present epoch: the sums of its values and of what was added, the latest weight.
        drawn: what the plan of the present epoch draws of each data set; made with the plan, also after a resume.
        follow: called with what methods find.
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
    methods: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    previous_model: PreviousModel | None = None
    optimiser: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    averaged: AveragedModel | None = None
    stage_number: int = 0
    epoch: int = 0
    iteration: int = 0
    ended: bool = False
    labels: Tensor | None = None
    classes: int = 1
    embedding_cache: dict[int, Vectors] | None = None
    sums: dict[str, list[float]] = field(default_factory=dict)
    drawn: dict[str, DrawnRecord] = field(default_factory=dict)
    follow: Callable[[MetricRecord], None] | None = None
    channels_last: bool = True
    probed: str = ""
    threads: Threads = field(default_factory=lambda: fixed_threads(torch.get_num_threads()))
    images: dict[str, str] = field(default_factory=dict)

    @property
    def all_methods(self) -> dict[str, Method]:
        """All methods there are, active or not, by name."""
        return {name: cast("Method", method) for name, method in self.methods.items()}

    @property
    def active_methods(self) -> list[Method]:
        """The methods of the present stage, in their order; none of pseudo-labels where labels are known."""
        return [cast("Method", self.methods[name]) for name in self.recipe.stages[self.stage_number].active]

    @property
    def over(self) -> bool:
        """Whether the present stage is at its end, by its epochs or because a method stops it."""
        between = self.epoch > 0 and self.iteration == 0
        enough = between and any(method.should_stop for method in self.active_methods)
        return enough or self.epoch >= self.recipe.stages[self.stage_number].epochs

    @property
    def modules(self) -> list[nn.Module]:
        """All that learns or remembers."""
        return [self.embedder, self.losses, self.methods]

    @property
    def followers(self) -> list[nn.Module]:
        """All that follows what is learnt, or stands still beside it."""
        return [module for module in (self.averaged, self.previous_model) if module is not None]

    @property
    def _stateful(self) -> dict[str, nn.Module]:
        found = {"embedder": self.embedder, "losses": self.losses, "methods": self.methods}
        beside = {"averaged": self.averaged, "previous model": self.previous_model}
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
        """What everything random in a method is a function of."""
        return mix_seeds(self.recipe.engine.seed, self.stage_number)

    def open_stage(self, number: int) -> None:
        """Begin a stage: make its losses and optimiser, start its methods; the model is kept."""
        start = (
            None
            if self.recipe.init_from is None or number > 0
            else read_start(Path(self.recipe.init_from), self.recipe)
        )
        if start is not None:
            load_state(self.embedder, start.embedder, source=f"init_from: {self.recipe.init_from}")
        self._wake(number)
        if start is not None:
            self._take_over(start.methods)
            self._require_own_images()
            self._require_memories()
        self._enter(number)
        for method in self.active_methods:
            method.on_stage_start(self)
        self._equip()

    def _wake(self, number: int) -> None:
        """Make the methods that a stage is the first to name, and give all of its methods its settings."""
        self.stage_number = number
        for name, chosen in self.recipe.stages[number].method.chosen.items():
            if name not in self.methods:
                self.methods[name] = chosen.make()
            cast("Method", self.methods[name]).settings = chosen

    def _enter(self, number: int, *, widened: bool = True) -> None:
        """Make what a stage is made of, once its methods remember the stages before it and before they begin."""
        self.stage_number, self.epoch, self.iteration, self.ended = number, 0, 0, False
        self.labels, self.sums = None, {}
        torch.manual_seed(self.seed)
        self.stage = self.stages[number]
        for method in self.active_methods if widened else ():
            self.stage = method.extend_stage(self, self.stage)
        self.make_losses(max(1, self.stage.classes))
        has_past = number > 0 or self.recipe.init_from is not None
        asked = has_past and any(method.settings.uses_previous_model for method in self.active_methods)
        self.previous_model = PreviousModel(self.tested) if asked else None

    def make_losses(self, classes: int) -> None:
        """Make the losses of the stage for so many people."""
        settings = self.recipe.stages[self.stage_number]
        self.classes = classes
        self.losses = LossMix(settings.losses, dimension=self.embedder.dimension, classes=classes)
        self.losses.to(self.device)

    def _take_over(self, state: dict[str, Tensor]) -> None:
        """Give the methods of all stages what they remembered elsewhere; those that were not there stay as they are."""
        known = {key.split(".")[0] for key in state}
        for stage in self.recipe.stages:
            for name, chosen in stage.method.chosen.items():
                if name in known and name not in self.methods:
                    self.methods[name] = chosen.make()
        for name, method in self.methods.items():
            mine = {key.removeprefix(f"{name}."): v for key, v in state.items() if key.startswith(f"{name}.")}
            if mine:
                cast("Method", method).make_room(self, mine)
                try:
                    method.load_state_dict(mine)
                except RuntimeError as error:
                    raise UserError(f"method.{name}: what is remembered does not fit ({first_line(error)})") from error

    def _require_own_images(self) -> None:
        for name, method in self.all_methods.items():
            if method.stored_images:
                raise UserError(
                    f"init_from: method.{name} keeps {method.stored_images:,} images of the stages of "
                    f"{self.recipe.init_from}, which this run does not read; learn all stages in one "
                    f"recipe, or leave out method.{name}"
                )

    def _require_memories(self) -> None:
        for name, chosen in self.recipe.stages[0].method.chosen.items():
            if chosen.needs_state and not self.all_methods[name].has_state:
                raise UserError(
                    f"init_from: the run in {self.recipe.init_from} left nothing that method.{name} could hold on to; "
                    f"start from a run whose method has it, or leave it out of the first stage"
                )

    def _equip(self) -> None:
        """Make the optimiser of a stage whose methods are ready."""
        settings = self.recipe.stages[self.stage_number]
        self.methods.to(self.device)
        for method in self.active_methods:
            set_norm_statistics(method, self.recipe.engine)
        distributed.share_state(self.modules)
        self._average(settings.optim.ema_decay)
        self.optimiser = self._make_optimiser()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def _make_optimiser(self) -> torch.optim.Optimizer:
        settings = self.recipe.stages[self.stage_number].optim
        of_parts = (p for method in self.active_methods for p in method.no_weight_decay)
        pools = (m for module in self.modules for m in module.modules() if isinstance(m, Pool))  # of all networks
        no_weight_decay = [*self.losses.no_weight_decay, *(p for pool in pools for p in pool.parameters()), *of_parts]
        return make_optimiser(settings, self.modules, no_weight_decay=no_weight_decay)

    def renew_optimiser(self) -> None:
        """Make the optimiser for what learns now; it keeps what it knew of whatever learnt before."""
        self.methods.to(self.device)
        distributed.share_state([self.losses, self.methods])
        known = self.optimiser.state
        self.optimiser = self._make_optimiser()
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                if parameter in known:
                    self.optimiser.state[parameter] = known[parameter]

    def vectors(self, model: Embedder | None = None) -> Vectors:
        """Embed all training images of the stage, by the model that is trained unless another is given."""
        model = self.embedder if model is None else model
        known = {} if self.embedding_cache is None else self.embedding_cache
        if id(model) not in known:
            train = self.stage.train
            known[id(model)] = look(model, train.path, autocast=self.autocast(), view=self.view(train))
        return known[id(model)]

    def forward(self, batch: Batch) -> Output:
        """Return the output of the model for a batch, with a graph."""
        with self.autocast():
            out: Output = self.embedder(batch.images, batch.mask)
        return out

    def compute_losses(self, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return the losses of the stage for an output, in float32 and over the batches of all processes."""
        local = self.recipe.engine.mining == "local"
        seen, labels = (out, batch.people) if local else distributed.gather(out, batch.people)
        terms: dict[str, LossTerm] = self.losses(seen, labels)
        return terms

    def compute_transferred_losses(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the losses of a batch that a method has made: of the stage, and of methods with a previous model."""
        out = self.forward(batch)
        terms = self.compute_losses(batch, out)
        for method in self.active_methods:
            if method.settings.uses_previous_model:
                terms |= method.losses(self, batch, out)
        return terms

    def autocast(self) -> torch.autocast:
        """Return the block in which the network runs in the precision of the run."""
        return torch.autocast(self.device.type, DTYPES.get(self.precision), enabled=self.precision != "float32")

    def view(self, split: Split) -> View:
        """Return how training images are shown where nothing is augmented."""
        return masked_view(split.masks, self.recipe.trained_input_mask)

    def log_metrics(self, method: str, values: dict[str, float], *, note: str = "") -> None:
        """Hand figures of a method, and a note for people, to whoever follows the run."""
        if self.follow is not None:
            self.follow(MetricRecord(self.stage_number + 1, self.epoch, method, values, note))

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
            methods=self.methods.state_dict(),
            previous_model=None if self.previous_model is None else self.previous_model.state_dict(),
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
            UserError: it does not fit the run; nothing of it but what the methods remembered has been loaded then.

        """
        for number in range(checkpoint.stage + 1):  # methods of earlier stages remember too
            self._wake(number)
        take_over(checkpoint.methods, self._take_over)
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
        if not checkpoint.ended:  # a stage that has ended teaches no more, and its methods remember more than they had
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
            "previous model": (self.previous_model, checkpoint.previous_model),
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
        paths, view = tested_paths(dataset), view or tested_view(dataset, self.recipe.input_mask)
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
        return label_vectors(
            joined.cpu().numpy(), dataset, feature=test.feature, flip=test.flip, input_mask=view.input_mask
        )

    def background_bias(self, name: str, tested: Embeddings) -> BackgroundBias | None:
        """Measure what the background gives away; None where the recipe or missing masks leave it out."""
        dataset, test = self.datasets[name], self.recipe.test
        bare, _ = without_mask((dataset.query, dataset.gallery))
        if test.background_bias == "off" or bare:
            return None
        return measure_background_bias(
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

"""Precision of the network of a run, and layout of its maps in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from passerby.device import Precision
from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.recipe import EngineSettings
from passerby.training import distributed
from passerby.training.probe import Arithmetic, fastest, probe


@dataclass(frozen=True)
class Choice:
    """How the network of a run computes, and in a sentence why, where that was measured."""

    arithmetic: Arithmetic
    note: str = ""


def choose_arithmetic(
    engine: EngineSettings,
    device: torch.device,
    embedder: Embedder,
    *,
    batch: int,
    earlier: Arithmetic | None = None,
) -> Choice:
    """Return precision and layout as the settings name them; what is left to `auto` is what is fastest.

    Args:
        engine: the settings.
        device: of the run.
        embedder: the network.
        batch: images in a step of one process.
        earlier: what a run that is resumed has computed in.

    Raises:
        UserError: the device cannot compute this network in the precision that was asked for.

    """
    precisions = _precisions(engine, device, embedder)
    layouts = [True, False] if engine.channels_last == "auto" else [engine.channels_last]
    candidates = [Arithmetic(precision, layout) for precision in precisions for layout in layouts]
    if earlier in candidates:
        assert earlier is not None
        return Choice(earlier)
    if device.type == "cuda":
        return Choice(Arithmetic(precisions[-1], layouts[0]))
    if len(candidates) == 1:
        return Choice(candidates[0])
    if distributed.rank() != 0:
        return Choice(candidates[distributed.of_first(0)])
    seconds = probe(embedder, candidates, batch=batch, unit=engine.ghost_batch_size or 2)
    chosen = fastest(candidates, seconds)
    distributed.of_first(candidates.index(chosen))
    speeds = "; ".join(f"{each} {1 / second:.0f}" for each, second in zip(candidates, seconds, strict=True))
    note = f"{chosen}, by a probe of its steps (images/s: {speeds}); engine.precision and engine.channels_last fix it"
    return Choice(chosen, note)


def _precisions(engine: EngineSettings, device: torch.device, embedder: Embedder) -> list[Precision]:
    """Return what comes into question, float32 first."""
    if device.type == "cuda":
        if engine.precision != "auto":
            return [engine.precision]
        return ["float32", "bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else ["float32"]
    if engine.precision == "fp16":
        raise UserError("engine.precision: fp16 is for GPUs; use bf16 or float32 on a CPU")
    wanted = engine.precision == "bf16" or (engine.precision == "auto" and torch.cpu._is_avx512_bf16_supported())
    if not wanted:
        return ["float32"]
    if not ends_in_one_column(embedder):
        return ["bf16"] if engine.precision == "bf16" else ["float32", "bf16"]
    if engine.precision == "auto":
        return ["float32"]
    raise UserError(
        "engine.precision: bf16 goes wrong on a CPU where a convolution takes steps and leaves one column of the map; "
        "use float32, a wider input.size or model.last_stride=1"
    )


def ends_in_one_column(embedder: Embedder) -> bool:
    """Whether a convolution with steps leaves a map of one column.

    There torch 2.14 (oneDNN) reads memory that nobody has written when it computes in bfloat16, and what it makes of
    that may be NaN; seen with kernels of 3 and 5 columns and steps of 2.
    """
    found: list[bool] = []

    def look(module: nn.Module, _: object, out: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        found.append(out.shape[3] == 1 and module.stride[1] > 1 and module.kernel_size[1] > 1)

    hooks = [one.register_forward_hook(look) for one in embedder.modules() if isinstance(one, nn.Conv2d)]
    was_training = embedder.training
    embedder.eval()
    try:
        with torch.inference_mode():
            blank = torch.zeros(1, 3, *embedder.input.size, dtype=torch.uint8, device=embedder.mean.device)
            embedder(embedder.backbone.inputs_of(blank))
    finally:
        embedder.train(was_training)
        for hook in hooks:
            hook.remove()
    return any(found)

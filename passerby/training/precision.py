"""Precision of the network of a run, and layout of its maps in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from passerby.device import Precision
from passerby.errors import UserError
from passerby.models.embedder import Embedder
from passerby.models.one_column import ends_in_one_column
from passerby.recipe import EngineSettings
from passerby.training import distributed
from passerby.training.probe import Arithmetic, fastest, probe


@dataclass(frozen=True)
class ArithmeticChoice:
    """Precision and memory layout of the network of a run, and the measurement that chose them, as a sentence."""

    arithmetic: Arithmetic
    note: str = ""


def choose_arithmetic(
    engine: EngineSettings,
    device: torch.device,
    embedder: Embedder,
    *,
    batch: int,
    earlier: Arithmetic | None = None,
) -> ArithmeticChoice:
    """Return precision and layout as the settings name them; for `auto`, the fastest.

    Args:
        engine: the settings.
        device: of the run.
        embedder: the network.
        batch: images in a step of one process.
        earlier: precision and layout of the run that is resumed; None = a new run.

    Raises:
        UserError: the device cannot compute this network in the precision that was asked for.

    """
    precisions = _precisions(engine, device, embedder)
    layouts = [True, False] if engine.channels_last == "auto" else [engine.channels_last]
    candidates = [Arithmetic(precision, layout) for precision in precisions for layout in layouts]
    if earlier in candidates:
        assert earlier is not None
        return ArithmeticChoice(earlier)
    if device.type == "cuda":
        return ArithmeticChoice(Arithmetic(precisions[-1], layouts[0]))
    if len(candidates) == 1:
        return ArithmeticChoice(candidates[0])
    if distributed.rank() != 0:
        return ArithmeticChoice(candidates[distributed.of_first(0)])
    seconds = probe(embedder, candidates, batch=batch, unit=engine.ghost_batch_size or 2)
    arithmetic = fastest(candidates, seconds)
    distributed.of_first(candidates.index(arithmetic))
    speeds = "; ".join(f"{each} {1 / second:.0f}" for each, second in zip(candidates, seconds, strict=True))
    note = (
        f"{arithmetic}, by a probe of its steps (images/s: {speeds}); engine.precision and engine.channels_last fix it"
    )
    return ArithmeticChoice(arithmetic, note)


def _precisions(engine: EngineSettings, device: torch.device, embedder: Embedder) -> list[Precision]:
    """Return the candidate precisions, float32 first."""
    if device.type == "cuda":
        if engine.precision != "auto":
            return [engine.precision]
        return ["float32", "bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else ["float32"]
    if engine.precision == "fp16":
        raise UserError("engine.precision: fp16 is for GPUs; use bf16 or float32 on a CPU")
    wants_bf16 = engine.precision == "bf16" or (engine.precision == "auto" and torch.cpu._is_avx512_bf16_supported())
    if not wants_bf16:
        return ["float32"]
    if not ends_in_one_column(embedder):
        return ["bf16"] if engine.precision == "bf16" else ["float32", "bf16"]
    if engine.precision == "auto":
        return ["float32"]
    raise UserError(
        "engine.precision: bf16 gives wrong values on a CPU where a strided convolution outputs a map of one column; "
        "use float32, a wider input.size or model.last_stride=1"
    )

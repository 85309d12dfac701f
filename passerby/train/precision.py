"""In what precision the network of a run computes."""

from __future__ import annotations

import torch
from torch import nn

from passerby.errors import UserError
from passerby.inference import Precision
from passerby.models.embedder import Embedder
from passerby.recipe import EngineSettings


def choose_precision(engine: EngineSettings, device: torch.device, embedder: Embedder) -> Precision:
    """Return the precision that the settings name, or the fastest safe one of the device.

    Raises:
        UserError: the device cannot compute this network in the precision that was asked for.

    """
    if device.type == "cuda":
        if engine.precision != "auto":
            return engine.precision
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if engine.precision == "fp16":
        raise UserError("engine.precision: fp16 is for GPUs; use bf16 or float32 on a CPU")
    wanted = engine.precision == "bf16" or (engine.precision == "auto" and torch.cpu._is_avx512_bf16_supported())
    if not wanted:
        return "float32"
    if not ends_in_one_column(embedder):
        return "bf16"
    if engine.precision == "auto":
        return "float32"
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
            embedder(torch.zeros(1, 3, *embedder.input.size, dtype=torch.uint8, device=embedder.mean.device))
    finally:
        embedder.train(was_training)
        for hook in hooks:
            hook.remove()
    return any(found)

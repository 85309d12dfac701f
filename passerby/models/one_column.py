"""Networks that a CPU cannot compute in bfloat16."""

from __future__ import annotations

import torch
from torch import nn

from passerby.models.embedder import Embedder


def ends_in_one_column(embedder: Embedder) -> bool:
    """Whether a strided convolution outputs a map of one column.

    There torch 2.14 (oneDNN) reads unwritten memory when it computes in bfloat16, and the output may be NaN; observed
    with kernels of 3 and 5 columns and a stride of 2.
    """
    is_affected: list[bool] = []

    def check_output(module: nn.Module, _: object, out: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        is_affected.append(out.shape[3] == 1 and module.stride[1] > 1 and module.kernel_size[1] > 1)

    convolutions = [module for module in embedder.modules() if isinstance(module, nn.Conv2d)]
    hooks = [convolution.register_forward_hook(check_output) for convolution in convolutions]
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
    return any(is_affected)

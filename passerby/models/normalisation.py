"""Normalisation of pixels in the order of operations that published weights were trained with."""

from __future__ import annotations

from torch import Tensor, nn, tensor

from passerby.inputs import InputSettings


def normalise(images: Tensor, *, divisor: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (images / divisor - mean) / std, in the type of `mean` and the memory format of the images.

    With a divisor of 255 and float32 the result is bit for bit that of torchvision's `ToTensor` and `Normalize`;
    (x - 255 mean) / (255 std) differs from it in the last bit, which some networks enlarge a hundredfold.

    Args:
        images: (B, 3, H, W) in any dtype; they are left as they are.
        divisor: (1, 1, 1, 1). A tensor, because on a GPU torch divides by a number as a multiplication by its rounded
            reciprocal.
        mean: (1, 3, 1, 1), of the divided values.
        std: (1, 3, 1, 1), of the divided values.

    """
    return (images.to(mean.dtype) / divisor).sub_(mean).div_(std)


def register_normalisation(module: nn.Module, inputs: InputSettings) -> None:
    """Give a module the buffers `divisor`, `mean` and `std` for pixels of 0 to 255; its state does not hold them."""
    divisor, factor = (255.0, 1) if inputs.scale == "unit" else (1.0, 255)
    module.register_buffer("divisor", tensor(divisor).reshape(1, 1, 1, 1), persistent=False)
    for name, values in (("mean", inputs.mean), ("std", inputs.std)):
        module.register_buffer(name, factor * tensor(values).reshape(1, 3, 1, 1), persistent=False)

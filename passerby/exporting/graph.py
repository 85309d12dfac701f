"""A model as the module that is translated into a graph: from the values that a program feeds to the tested vector."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passerby.encoders import Trained
from passerby.errors import UserError, first_line
from passerby.exporting.contracts import CONTRACTS, Contract
from passerby.inference.embed import tested_vectors
from passerby.models.embedder import Embedder
from passerby.types import Inputs, VectorName

if TYPE_CHECKING:
    from onnx import ModelProto

MOST_RECENT_IR = 10
"""Version of the ONNX file format that all programs of the contracts read."""


class Inference(nn.Module):
    """From the values of a contract, by default RGB bytes, to the tested vector: all that an exported graph does.

    Args:
        embedder: the model; it is copied where its mean and standard deviation change.
        feature: which of its vectors.
        flip: whether to average it with the mirror image's.
        contract: of the program that runs the graph.

    """

    def __init__(
        self, embedder: Embedder, *, feature: VectorName, flip: bool, contract: Contract = CONTRACTS["onnx"]
    ) -> None:
        super().__init__()
        self.feature = feature
        self.flip = flip
        self.contract = contract
        self.reverses = embedder.input.colour != contract.colour
        self.embedder = (
            embedder if contract.scale == "bytes" else with_input_affine(embedder, contract, reverses=self.reverses)
        )
        self._original = [embedder]  # in a list, or torch would register it as a part of the graph

    @property
    def original(self) -> Embedder:
        """The model as it takes pixels from 0 to 255."""
        return self._original[0]

    def forward(self, images: Tensor, cam: Tensor | None = None) -> Tensor:
        """Map images (B, 3, H, W) of the contract, of rows (B,) of the camera table, to vectors (B, D) float32."""
        if self.contract.side is not None:
            images = F.interpolate(images.float(), self.embedder.input.size, mode="bilinear", align_corners=False)
        ordered = self._ordered(images)
        inputs = Inputs.of_images(ordered) if cam is None else Inputs(ordered, cam)
        vectors = tested_vectors(self.embedder, inputs, feature=self.feature, flip=self.flip)
        return F.normalize(vectors) if self.contract.unit_length else vectors

    def _ordered(self, images: Tensor) -> Tensor:
        """Return images with the channels in the order of the network."""
        if not self.reverses:
            return images
        # TensorRT and OpenVINO know a gather better than a slice with a negative step.
        return images.flip(1) if self.contract.consumer == "onnx" else images[:, [2, 1, 0]]


def with_input_affine(embedder: Embedder, contract: Contract, *, reverses: bool) -> Embedder:
    """Return a copy of a model that takes the values of a contract instead of pixels from 0 to 255.

    With x = a p + b per channel, (p / 255 - mean) / std = (x - (b + 255 a mean)) / (255 a std). Where a program already
    normalises as the model does, this is (x - 0) / 1.

    Args:
        embedder: the model.
        contract: gives a and b, in its order of colours.
        reverses: whether the order of the model is the other one.

    """
    factors, shifts = (
        torch.tensor(three, dtype=torch.float64).flip(0) if reverses else torch.tensor(three, dtype=torch.float64)
        for three in contract.affine()
    )
    copy = deepcopy(embedder)
    a, b = factors.reshape(1, 3, 1, 1), shifts.reshape(1, 3, 1, 1)
    model = embedder.input
    mean, std = (
        255 * torch.tensor(three, dtype=torch.float64).reshape(1, 3, 1, 1) for three in (model.mean, model.std)
    )
    copy.divisor.fill_(1)
    changed = b + a * mean
    copy.mean.copy_(torch.where(changed.abs() < 1e-12, 0.0, changed))
    copy.std.copy_(a * std)
    return copy


def translate(network: Inference, trained: Trained) -> ModelProto:
    """Return the graph of a network for any number of images.

    Raises:
        UserError: torch cannot translate it.

    """
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it, and tells of its absence in a traceback
    except ImportError as error:
        raise UserError("writing ONNX files needs the extra `export`: pip install 'passerby[export]'") from error
    name = trained.embedder.settings.backbone
    try:
        model = trace(network)
    except Exception as error:  # the tracer, the translator and protobuf each have their own
        raise UserError(f"torch cannot write {name!r} as ONNX ({first_line(error)})") from error
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:  # torch gives up on this without a word
        raise UserError(f"torch can write {name!r} as ONNX for a fixed number of images only, which is of little use")
    _forget_traces(model)
    model.ir_version = min(model.ir_version, MOST_RECENT_IR)
    return model


def trace(network: Inference) -> ModelProto:
    """Return the graph that torch makes of a network."""
    size = network.contract.size(network.embedder.input)
    dtype = torch.uint8 if network.contract.dtype == "uint8" else torch.float32
    inputs, shapes = (
        {"images": torch.zeros(2, 3, *size, dtype=dtype)},
        {"images": {0: torch.export.Dim("batch")}},
    )
    if network.embedder.cameras.count:
        inputs["cam"], shapes["cam"] = torch.zeros(2, dtype=torch.int64), {0: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        network,
        tuple(inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=[network.contract.output],
        dynamic_shapes=shapes,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _forget_traces(model: ModelProto) -> None:
    """Drop what torch notes for its own debugging: lines of source with the folders of this machine, at every node."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]


def fix_batch(model: ModelProto, batch: int) -> None:
    """Declare a fixed number of images at a time."""
    for node in (*model.graph.input, *model.graph.output):
        node.type.tensor_type.shape.dim[0].dim_value = batch

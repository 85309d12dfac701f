"""Captions of methods in the pipeline drawing: one table by the name of the method.

A method without an entry, such as that of a plugin, is drawn by what its settings declare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from passerby.methods.settings import BaseMethodSettings, End

_AT_END: Mapping[End, str] = MappingProxyType(
    {
        "replaces": "Replace the trained weights",
        "interpolates": "Interpolate the weights with those of the stage before",
        "remembers": "Keep what later stages need",
    }
)


@dataclass(frozen=True)
class MethodCaptions:
    """Captions of a method.

    Attributes:
        at_end: the work after the last epoch of a stage; `""` = from `end` of the settings.
        memory: what earlier stages left, where losses compare with it.
        companions: what stands beside the network during a stage, titles and descriptions.
        embedded_by: where the clustered vectors come from.
        noise: what becomes of images in no cluster.

    """

    at_end: str = ""
    memory: str = "what the method kept of earlier stages"
    companions: Mapping[str, str] = field(default_factory=dict)
    embedded_by: str = "The network as it is now"
    noise: str = "an image in no cluster is left out"


CAPTIONS: Mapping[str, MethodCaptions] = MappingProxyType(
    {
        "average": MethodCaptions(at_end="Average the weights with those of the stage before"),
        "lstkc_pp": MethodCaptions(
            at_end="Fuse the teachers, fuse the weights with them, and keep the trained weights as a teacher",
            memory="the model as the stage before trained it, and the fusion of all earlier ones",
        ),
        "lwf": MethodCaptions(at_end="Keep the classifier of the stage", memory="the classifiers of earlier stages"),
        "ebll": MethodCaptions(at_end="Train autoencoders on the features of the stage, and keep their encoders"),
        "ewc": MethodCaptions(at_end="Add the Fisher information of the stage, and keep the weights as reference"),
        "si": MethodCaptions(at_end="Add the path integral of the stage, and keep the weights as reference"),
        "mas": MethodCaptions(at_end="Add the sensitivity of the embeddings, and keep the weights as reference"),
        "replay": MethodCaptions(at_end="Choose images of the stage, and keep the rows of their identities"),
        "grow": MethodCaptions(at_end="Keep the rows of all identities"),
        "dkp": MethodCaptions(
            at_end="Replace the prototypes by those of the identities of the stage",
            memory="mean and deviation of each identity of the stage before",
            companions={"Head of deviations": "predicts how far the samples of each image lie around its vector"},
        ),
        "dask": MethodCaptions(
            at_end="Train a network on the colours of the images of the stage, and keep it",
            memory="a network with the colours of earlier data sets",
        ),
        "distil": MethodCaptions(
            at_end="Discard the vectors of the teacher",
            companions={
                "Vectors of a teacher": "one of each image, embedded once by the teacher, without augmentation"
            },
        ),
        "prompts": MethodCaptions(
            at_end="Keep the vectors of the texts of all identities, and discard words and text tower",
            companions={"Texts of identities": "a sentence of each with learnt words, encoded by a frozen text tower"},
        ),
        "prototypes": MethodCaptions(
            at_end="Discard the prototypes",
            companions={"Prototypes": "one vector of each identity, made anew every epoch, updated by every batch"},
        ),
        "contrast": MethodCaptions(
            at_end="Discard the memory",
            companions={"Memory of clusters": "one vector of each, made anew every epoch, updated by every batch"},
        ),
        "spcl": MethodCaptions(
            at_end="Keep the batch norms of the unlabelled images, and discard the memory",
            companions={
                "Hybrid memory": "one vector of each unlabelled image and of each labelled identity, updated by batches"
            },
            embedded_by="The memory, as batches updated it",
            noise="an image in no cluster, or in an unstable one, is an identity of its own",
        ),
        "mmt": MethodCaptions(
            at_end="Put the mean teacher of the first network in its place",
            companions={
                "Second network": "learns beside the first, from mirrored images",
                "Two mean teachers": "the EMA of each network teaches the other one",
            },
            embedded_by="The mean of both mean teachers",
        ),
        "pplr": MethodCaptions(
            at_end="Discard necks and classifiers",
            companions={
                "Necks and classifiers": "of every stripe; their agreement with the whole image weights its label"
            },
        ),
        "dec": MethodCaptions(
            at_end="Discard centres and targets",
            companions={"Centres": "of the clusters; images are pulled to the nearest ones"},
        ),
        "camera_proxies": MethodCaptions(
            at_end="Discard the proxies",
            companions={"Camera proxies": "one vector of each cluster in each camera, updated by every batch"},
        ),
    }
)
"""The captions of the methods of passerby, by their keys in `METHODS`."""

_NO_CAPTIONS = MethodCaptions()


def captions(name: str) -> MethodCaptions:
    """Return the captions of a method, those of an empty entry where the table has none."""
    return CAPTIONS.get(name, _NO_CAPTIONS)


def end_caption(name: str, settings: BaseMethodSettings) -> str:
    """Return the work of a method after the last epoch of a stage, `""` where there is none."""
    return (captions(name).at_end or _AT_END[settings.end]) if settings.acts_at_end else ""

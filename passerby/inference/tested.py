"""Query and gallery of a data set, as they are embedded together and scored."""

from __future__ import annotations

import numpy as np

from passerby.errors import UserError
from passerby.inference.embed import WHOLE, View, masked_view
from passerby.types import Dataset, Embeddings, Floats, InputMask, Ints, Split, Words


def tested_paths(dataset: Dataset) -> Words:
    """Return the files of the query and then of the gallery.

    Raises:
        UserError: one of them is empty.

    """
    for name, split in (("query", dataset.query), ("gallery", dataset.gallery)):
        if len(split) == 0:
            raise UserError(f"{dataset.name} has no {name} images, so there is nothing to evaluate on")
    return np.concatenate([dataset.query.path, dataset.gallery.path])


def tested_view(dataset: Dataset, input_mask: InputMask) -> View:
    """Return how the files of `tested_paths` are shown.

    Raises:
        UserError: masks are needed and an image has none.

    """
    if input_mask == "none":
        return WHOLE
    masks = np.concatenate([dataset.query.masks, dataset.gallery.masks])
    paths = tested_paths(dataset)
    if missing := int((masks == "").sum()):
        raise UserError(
            f"a mask is missing for {missing:,} of {len(masks):,} test images of {dataset.name} (first: "
            f"{paths[masks == ''][0]}), and the model is tested with test.input_mask={input_mask}; make masks "
            "by `passerby segment apply`, or set test.input_mask=none"
        )
    return masked_view(masks, input_mask)


def tested_split(dataset: Dataset) -> Split:
    """Return the images of `tested_paths` with their cameras."""
    paths, splits = tested_paths(dataset), (dataset.query, dataset.gallery)
    pid, cam, row = (np.concatenate([getattr(split, name) for split in splits]) for name in ("pid", "cam", "cam_row"))
    return Split(paths, pid, cam, cam_row=row)


def label_vectors(
    vectors: Floats, dataset: Dataset, *, feature: str, flip: bool = False, input_mask: InputMask = "none"
) -> Embeddings:
    """Join the vectors (N, D) of `tested_paths` with the labels of their images and the name of the feature."""
    query, gallery = dataset.query, dataset.gallery
    clothes, tracklet = (_both(getattr(query, name), getattr(gallery, name)) for name in ("clothes", "tracklet"))
    return Embeddings(
        vectors=vectors,
        pid=np.concatenate([query.pid, gallery.pid]),
        cam=np.concatenate([query.cam, gallery.cam]),
        role=np.repeat(["query", "gallery"], [len(query), len(gallery)]),
        path=np.concatenate([query.path, gallery.path]),
        dataset=dataset.name,
        feature=feature,
        flip=flip,
        input_mask=input_mask,
        clothes=clothes,
        tracklet=tracklet,
    )


def _both(query: Ints | None, gallery: Ints | None) -> Ints | None:
    return None if query is None or gallery is None else np.concatenate([query, gallery])

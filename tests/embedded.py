"""The vectors of a data set's query and gallery, in one call."""

from passerby.inference.embed import embed
from passerby.inference.tested import label_vectors, tested_split


def embed_tested(embedder, dataset, *, vector="after_neck", flip=False):
    """Embed the query and the gallery of a data set, whole images."""
    vectors = embed(embedder, tested_split(dataset), vector=vector, flip=flip)
    return label_vectors(vectors, dataset, feature=vector, flip=flip)

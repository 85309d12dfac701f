"""The evaluation of a model by the protocol of a recipe: vectors, scores and background bias of its data sets."""

from __future__ import annotations

from passerby.background_bias import BackgroundBias, measure_background_bias
from passerby.data.datasets import without_mask
from passerby.evaluation import compared_rows, evaluate_by, evaluate_open_set
from passerby.inference.embed import View, embed
from passerby.inference.tested import label_vectors, tested_split, tested_view
from passerby.metrics.open_set import OpenSetScores
from passerby.models.embedder import Embedder
from passerby.training.setup import Setup
from passerby.types import AnyRerank, Embeddings, Scores


class Evaluator:
    """Embedding and evaluation of the data sets that a recipe tests; it changes nothing."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def embed(self, model: Embedder, name: str, *, view: View | None = None) -> Embeddings:
        """Embed query and gallery of a data set; each process embeds its share, and all have the result.

        A row is an image or a tracklet, as the recipe's `test.unit` says.

        Args:
            model: the model.
            name: of the data set.
            view: what the model is shown of each image; None = what the recipe says.

        """
        dataset, recipe = self.setup.datasets[name], self.setup.recipe
        test = recipe.test
        view = view or tested_view(dataset, recipe.input_mask)
        vectors = embed(
            model,
            tested_split(dataset),
            vector=test.feature,
            flip=test.flip,
            precision=self.setup.precision,
            view=view,
        )
        table = label_vectors(vectors, dataset, feature=test.feature, flip=test.flip, input_mask=view.input_mask)
        return compared_rows(table, test.rules)

    def score(self, embeddings: Embeddings, *, rerank: AnyRerank | None = None) -> Scores:
        """Score embeddings by the recipe's protocol."""
        rules = self.setup.recipe.test.rules
        return evaluate_by(embeddings, rules, rerank=rerank, device=self.setup.device.type)

    def open_set(self, embeddings: Embeddings) -> OpenSetScores | None:
        """Score the identification with unknown people; None where the recipe leaves it out."""
        test = self.setup.recipe.test
        if not test.open_set:
            return None
        return evaluate_open_set(
            embeddings,
            cameras=test.cameras,
            distance=test.distance,
            camera_norm=test.camera_norm,
            device=self.setup.device.type,
        )

    def scores(self, model: Embedder) -> dict[str, Scores]:
        """Score a model, not re-ranked, on every data set that the recipe tests."""
        tables = [self.embed(model, name) for name in self.setup.recipe.tested]
        return {embeddings.dataset: self.score(embeddings) for embeddings in tables}

    def background_bias(self, model: Embedder, name: str, embeddings: Embeddings) -> BackgroundBias | None:
        """Measure the background bias of a model; None where the recipe or missing masks leave it out.

        Args:
            model: the model.
            name: of the data set.
            embeddings: its vectors of whole images.

        """
        dataset, test = self.setup.datasets[name], self.setup.recipe.test
        bare, _ = without_mask((dataset.query, dataset.gallery))
        if test.background_bias == "off" or bare:
            return None
        return measure_background_bias(
            dataset,
            embeddings,
            embed=lambda view: self.embed(model, name, view=view),
            score=self.score,
            cameras=test.cameras,
        )

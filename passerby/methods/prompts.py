"""Learnt prompts of CLIP-ReID: words for each identity, then texts that guide the image tower.

A stage with `train: prompts` learns words in the space of tokens, one block per identity, so that the text "A photo of
a [words] person." lies near the images of the identity. Both towers are frozen, so images are embedded once and a step
runs the text tower alone. At its end the vectors of all texts are kept, and words and text tower are discarded. A later
stage with `train: images` classifies projected images among these vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from passerby.errors import UserError
from passerby.losses.image_text import image_text_loss
from passerby.losses.mining import to_full_precision
from passerby.losses.mix import LossTerm
from passerby.losses.softmax import smoothed_cross_entropy
from passerby.methods.method import Method
from passerby.methods.settings import BaseMethodSettings, RecipeView, StageView
from passerby.models.clip_tokens import PHRASE, phrase_tokens
from passerby.models.side_information import without_side_information
from passerby.types import Batch, Output, Stage

if TYPE_CHECKING:
    from passerby.methods.prompt_encoder import PromptEncoder
    from passerby.training.context import MethodContext


class PromptsSettings(BaseMethodSettings):
    """CLIP-ReID (Li et al., AAAI 2023): words for each identity, then the image tower against their texts."""

    labelled_only: ClassVar[bool] = True
    trains_alone: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("text_tower",)
    excludes: ClassVar[tuple[str, ...]] = ("replay", "grow")

    train: Literal["prompts", "images"] = Field(
        "images", description="prompts: words of each identity; images: the image tower, by the texts of a stage before"
    )
    text_tower: str | None = Field(None, description="file of a CLIP whose text tower encodes the prompts")
    prompt: str = Field(PHRASE, description="sentence around the words, which take the place of the braces")
    words: Annotated[int, Field(ge=1)] = Field(4, description="number of learnt words of an identity")
    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="weight of the classification by texts")
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="label smoothing of the classification by texts"
    )

    @property
    def needs_state(self) -> bool:
        """Whether texts of an earlier stage are needed."""
        return self.train == "images"

    @property
    def reads_images(self) -> bool:
        """Whether the model is trained; words are learnt from vectors that were embedded once."""
        return self.train == "images"

    def check(self, recipe: RecipeView, stage: StageView) -> None:
        """Require prompts before images, and that a stage of prompts has nothing that looks at images."""
        key = self.key(stage)
        if self.train == "prompts":
            self._check_prompts(key, stage)
        elif recipe.init_from is None and not any(map(self._learns_prompts_of(stage), _before(recipe, stage))):
            raise ValueError(
                f"{key}.train: images needs the texts of the same identities, and no stage before has {key} with "
                f"train: prompts on {', '.join(stage.train)}; add such a stage, or init_from a run that ends with it"
            )

    def _check_prompts(self, key: str, stage: StageView) -> None:
        if self.text_tower is None:
            raise ValueError(f"{key}.text_tower: name the file of a CLIP, whose text tower encodes the prompts")
        names = [f"losses.{name}" for name in stage.losses.chosen]
        names += [f"method.{name}" for name, method in stage.method.chosen.items() if method is not self]
        if names:
            raise ValueError(
                f"{key}.train: prompts shows the model no images, so {names[0]} has no effect in stage "
                f"{stage.title!r}; set it to null there"
            )

    @staticmethod
    def _learns_prompts_of(stage: StageView) -> Callable[[StageView], bool]:
        def learns(earlier: StageView) -> bool:
            methods = earlier.method.chosen.values()
            learning = any(isinstance(method, PromptsSettings) and method.train == "prompts" for method in methods)
            return learning and set(earlier.train) == set(stage.train)

        return learns


def _before(recipe: RecipeView, stage: StageView) -> list[StageView]:
    """Return the stages before one."""
    stages = list(recipe.stages)
    return stages[: next(number for number, each in enumerate(stages) if each is stage)]


class Prompts(Method, settings_class=PromptsSettings):
    """Words that describe each identity, and the classification of images by their texts.

    Reference: Li et al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text
    Labels", AAAI 2023.
    Differs from the published code: what follows the last token of a text is not computed; the images that do not fill
    a batch are not drawn in an epoch.

    """

    settings: PromptsSettings
    image_vectors: Tensor
    text_vectors: Tensor
    images: Tensor
    text_of_image: Tensor
    text_of_class: Tensor

    def __init__(self, settings: PromptsSettings) -> None:
        super().__init__(settings)
        self.encoder: PromptEncoder | None = None
        self.register_buffer("image_vectors", torch.empty(0, 0))  # (N, E) of a stage of prompts
        self.register_buffer("text_vectors", torch.empty(0, 0))  # (C, E) of its identities
        self.register_buffer("images", torch.empty(0, dtype=torch.int64))  # (N,) its images, by hashes of names
        self.register_buffer("text_of_image", torch.empty(0, dtype=torch.int64))  # (N,) rows of the texts
        self.register_buffer("text_of_class", torch.empty(0, dtype=torch.int64))  # (C',) of a stage of images

    def get_extra_state(self) -> dict[str, dict[str, int]] | None:
        """Return the dimensions of the text tower and its prompts, while there is one."""
        return None if self.encoder is None else self.encoder.describe()

    def set_extra_state(self, state: dict[str, dict[str, int]] | None) -> None:
        """Build a text tower without values, which the rest of the state gives."""
        from passerby.methods.prompt_encoder import PromptEncoder

        self.encoder = None if state is None else PromptEncoder.of_description(state)

    @property
    def has_state(self) -> bool:
        """Whether there are texts of identities."""
        return len(self.text_vectors) > 0

    def on_stage_start(self, ctx: MethodContext) -> None:
        """Embed all images and begin new words, or find the text of each identity.

        Raises:
            UserError: a model without a projection, a text tower that does not fit it, or an identity without a text.

        """
        if not ctx.embedder.backbone.projection:
            raise UserError(
                f"method.prompts compares images with texts, and model.backbone {ctx.embedder.settings.backbone!r} has "
                "no projection into the space of texts; use clip_vit or clip_resnet50"
            )
        if self.settings.train == "images":
            self.text_of_class = self._texts_of(ctx.stage).to(ctx.device)
        else:
            self._begin_prompts(ctx)

    def _begin_prompts(self, ctx: MethodContext) -> None:
        from passerby.methods.prompt_encoder import PromptEncoder
        from passerby.models.clip_text_file import read_text_tower

        settings, projection = self.settings, ctx.embedder.backbone.projection
        tower = read_text_tower(str(settings.text_tower))
        if tower.settings.projection != projection:
            raise UserError(
                f"method.prompts.text_tower: {settings.text_tower} makes vectors of texts of "
                f"{tower.settings.projection} numbers, and this model projects images to {projection}; give the CLIP "
                "that the image tower belongs to"
            )
        before, after = phrase_tokens(settings.prompt)
        self.encoder = PromptEncoder.of_tower(
            tower, before, after, identities=ctx.stage.classes, words=settings.words
        ).to(ctx.device)
        with without_side_information(ctx.embedder):
            vectors = ctx.vectors_of(ctx.stage.train, "before_neck")
        self.image_vectors = vectors[:, -projection:].contiguous()

    def losses(self, ctx: MethodContext, batch: Batch, out: Output) -> dict[str, LossTerm]:
        """Return both contrastive losses of a stage of prompts, or the classification by texts of one of images."""
        if self.encoder is not None:
            return self._losses_of_prompts(ctx, batch)
        assert out.projected is not None, "refused where the stage begins"
        logits = to_full_precision(out.projected) @ self.text_vectors.T  # (B, C)
        texts = self.text_of_class[batch.labels]
        value = smoothed_cross_entropy(logits, texts, smoothing=self.settings.smoothing)
        return {"image to text": LossTerm(value, self.settings.weight)}

    def _losses_of_prompts(self, ctx: MethodContext, batch: Batch) -> dict[str, LossTerm]:
        assert self.encoder is not None
        labels, place = batch.labels.unique(return_inverse=True)
        with ctx.autocast():
            texts = self.encoder(labels)[place]  # (B, E)
        images, texts, labels = ctx.gather(self.image_vectors[batch.index], texts.float(), batch.labels, use="mean")
        return {
            "image to text": LossTerm(image_text_loss(images, texts, labels)),
            "text to image": LossTerm(image_text_loss(texts, images, labels)),
        }

    def on_stage_end(self, ctx: MethodContext) -> None:
        """Keep the vectors of the texts of all identities, and discard words and text tower."""
        if self.encoder is None:
            return
        with torch.no_grad(), ctx.autocast():
            parts = torch.arange(ctx.stage.classes, device=ctx.device).split(256)
            self.text_vectors = torch.cat([self.encoder(part).float() for part in parts])
        self.images = torch.tensor(_hashes(ctx.stage), device=ctx.device)
        self.text_of_image = torch.from_numpy(ctx.stage.train.pid).to(ctx.device)
        nearest = (self.image_vectors @ self.text_vectors.T).argmax(dim=1)
        share = float((nearest == self.text_of_image).double().mean())
        ctx.log_metrics("prompts", {"share of images nearest to the text of their identity": share})
        self.encoder, self.image_vectors = None, self.image_vectors[:0]

    def _texts_of(self, stage: Stage) -> Tensor:
        """Return the row of the text of each identity of a stage, (C,)."""
        known = dict(zip(self.images.tolist(), self.text_of_image.tolist(), strict=True))
        texts: dict[int, int] = {}
        for name, label in zip(_hashes(stage), stage.train.pid.tolist(), strict=True):
            if name in known:
                texts.setdefault(label, known[name])
        for path, label in zip(stage.train.path.tolist(), stage.train.pid.tolist(), strict=True):
            if label not in texts:
                raise UserError(
                    f"method.prompts: no prompt was learnt for the identity of {path}; train prompts on the images of "
                    f"stage {stage.name!r} first"
                )
        return torch.tensor([texts[label] for label in range(stage.train.count_identities)])


def _hashes(stage: Stage) -> list[int]:
    """Return a number of 64 bits for the data set and the file name of each image."""
    sources = [stage.sources[number] for number in stage.origin]
    names = (f"{source}/{PurePath(path).name}" for source, path in zip(sources, stage.train.path.tolist(), strict=True))
    digests = (hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest() for name in names)
    return [int.from_bytes(digest, "little", signed=True) for digest in digests]

import numpy as np
import pytest
import torch
from torchvision import transforms

from passerby.inputs import InputSettings
from passerby.models.embedder import Embedder, ModelSettings
from passerby.segment.network import Segmenter, SegmenterSettings

EVERY_VALUE = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OTHER = ((0.3525, 0.3106, 0.3140), (0.2660, 0.2522, 0.2505))


def seen_by_the_backbone(inputs):
    """Return the values of bytes and of floats of the same values, as a backbone gets them."""
    embedder = Embedder(ModelSettings(backbone="test_resnet"), inputs).eval()
    images = torch.from_numpy(EVERY_VALUE).permute(2, 0, 1)[None]
    seen = []
    embedder.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0].images))
    for given in (images, images.float()):
        before = given.clone()
        embedder(embedder_inputs(given))
        assert torch.equal(given, before)
    return seen


def embedder_inputs(images):
    from passerby.types import Inputs

    return Inputs.of_images(images)


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, HALF, OTHER])
def test_every_byte_is_normalised_as_published_to_the_last_bit(mean, std):
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])(EVERY_VALUE)[None]
    by_numpy = (np.float32(EVERY_VALUE) / np.float32(255) - np.float32(mean)) / np.float32(std)
    for seen in seen_by_the_backbone(InputSettings(size=(16, 16), mean=mean, std=std)):
        assert torch.equal(seen, published)
        np.testing.assert_array_equal(seen[0].permute(1, 2, 0).numpy(), by_numpy)


def test_the_scale_of_bytes_is_that_of_fast_reid_to_the_last_bit():
    mean, std = (57.375, 114.75, 102.0), (63.75, 51.0, 57.375)  # their shares of 255 are exact in float32 or rounded
    shares = [tuple(float(np.float32(value / 255)) for value in three) for three in (mean, std)]
    inputs = InputSettings(size=(16, 16), mean=shares[0], std=shares[1], scale="bytes")
    expected = (np.float32(EVERY_VALUE) - np.float32(mean)) / np.float32(std)
    for seen in seen_by_the_backbone(inputs):
        np.testing.assert_array_equal(seen[0].permute(1, 2, 0).numpy(), expected)


def test_segmenters_normalise_in_the_same_way():
    network = Segmenter(SegmenterSettings(input=InputSettings(size=(16, 16)))).eval()
    seen = []
    network.stem.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images = torch.from_numpy(EVERY_VALUE).permute(2, 0, 1)[None]
    network(images)
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*IMAGENET)])(EVERY_VALUE)[None]
    assert torch.equal(seen[0], published)

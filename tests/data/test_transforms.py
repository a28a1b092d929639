"""Presets do what their numbers say, and augmentation changes each image by itself."""

import pytest
import torch

from data_utils import TaskSampler
from data_utils.images import ImageClasses
from data_utils.transforms import AUGMENTATIONS, NORMALISATIONS, preset

RGB = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_none_changes_nothing():
    assert preset()(RGB) is RGB and preset("none", "none")(RGB) is RGB


@pytest.mark.parametrize(
    "name, mean, deviation",
    [
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("cifar_cxgrad", (0.5071, 0.4847, 0.4408), (0.2675, 0.2565, 0.2761)),
    ],
)
def test_normalisation(name, mean, deviation):
    expected = (RGB - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    assert torch.allclose(preset(name)(RGB), expected, atol=1e-6)


def test_relationnet_expects_white_paper():
    ink = RGB[:, :1]
    assert torch.allclose(preset("relationnet")(ink), ((1 - ink) - 0.92206) / 0.08426, atol=1e-5)


def test_wrong_names_and_channels():
    with pytest.raises(ValueError, match="no normalisation 'mean'; there are none, imagenet, cifar_cxgrad"):
        preset("mean")
    with pytest.raises(ValueError, match="no augmentation 'blur'; there are none, flip"):
        preset("none", "blur")
    with pytest.raises(ValueError, match="for 3 channels; the images have 1"):
        preset("imagenet")(RGB[:, :1])


def test_flips_are_drawn_for_each_image():
    torch.manual_seed(0)
    flipped = preset("none", "flip")(RGB)
    turned = [torch.equal(new, old.flip(-1)) for new, old in zip(flipped, RGB)]
    assert 0 < sum(turned) < len(RGB)
    assert all(turn or torch.equal(new, old) for turn, new, old in zip(turned, flipped, RGB))


def test_crop_flip_jitter():
    torch.manual_seed(0)
    changed = preset("none", "crop_flip_jitter")(RGB[:1].expand(6, -1, -1, -1))
    assert changed.shape == (6, 3, 12, 12) and 0 <= changed.min() and changed.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 6


@pytest.mark.parametrize("normalisation", [name for name in NORMALISATIONS if name != "relationnet"])
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_in_a_sampler(normalisation, augmentation):
    images = (RGB * 255).to(torch.uint8)
    data = ImageClasses.from_groups([("a", images[:4]), ("b", images[4:])])
    sampler = TaskSampler(data, ways=2, shots=1, queries=3, transform=preset(normalisation, augmentation))
    (support, _), (query, _) = sampler.sample()[0]
    assert support.shape == (2, 3, 12, 12) and query.shape == (6, 3, 12, 12) and support.dtype == torch.float32

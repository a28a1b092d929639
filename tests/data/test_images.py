"""ImageClasses: what it accepts, and what selecting, rotating and moving do."""

import dataclasses

import pytest
import torch

from data_utils import ImageClasses

SIZES = {"a": 3, "b": 1, "c": 5}


@pytest.fixture
def data() -> ImageClasses:
    """Three classes of unequal size, each image unlike all others."""
    pixels = torch.arange(9 * 2 * 4 * 4).remainder(251).to(torch.uint8).reshape(9, 2, 4, 4)
    return ImageClasses.from_groups(zip(SIZES, pixels.split(list(SIZES.values())), strict=True))


def test_from_groups(data):
    assert data.names == ("a", "b", "c")
    assert data.labels.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2] and data.labels.dtype == torch.int64
    assert data.counts.tolist() == [3, 1, 5]
    assert len(data) == 9
    assert repr(data) == "ImageClasses(3 classes, 9 images, 2×4×4, cpu)"


def test_is_frozen(data):
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.names = ()


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (torch.zeros(3, 1, 2, 2), torch.tensor([0, 0, 1]), r"uint8 of shape \(N, C, H, W\), not torch.float32"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1]), r"not torch.uint8 of shape \(3, 2, 2\)"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), "3 images need as many labels"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]), "ascending and cover 0 … 1"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([1, 1, 0]), "ascending and cover 0 … 1"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 0]), "ascending and cover 0 … 1"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2]), "ascending and cover 0 … 1"),
    ],
    ids=["floats", "no channels", "too few labels", "unsorted", "descending", "class without image", "unnamed class"],
)
def test_refused(images, labels, words):
    with pytest.raises(ValueError, match=words):
        ImageClasses(images, labels, ("a", "b"))


@pytest.mark.parametrize(
    "images, labels, names, words",
    [
        ((2, 1, 2, 2), [0, 1], ("a", "a"), "class 'a' is there twice"),
        ((2, 1, 2, 2), [0, 1], "ab", "not the string 'ab'"),
        ((0, 1, 2, 2), [], (), r"no pixels in images of shape \(0, 1, 2, 2\)"),
        ((2, 0, 2, 2), [0, 1], ("a", "b"), "no pixels"),
        ((2, 1, 2, 2), [0.0, 1.0], ("a", "b"), "labels must be int64, not torch.float32"),
    ],
    ids=["twice", "string", "no image", "no channel", "float labels"],
)
def test_refused_names_and_empty_images(images, labels, names, words):
    with pytest.raises(ValueError, match=words):
        ImageClasses(torch.zeros(images, dtype=torch.uint8), torch.tensor(labels), names)


def test_arrays_are_refused_by_their_kind():
    with pytest.raises(ValueError, match="must be tensors, not ndarray"):
        ImageClasses(torch.zeros(2, 1, 2, 2, dtype=torch.uint8).numpy(), torch.tensor([0, 1]), ("a", "b"))


def test_names_in_a_list_become_a_tuple():
    assert ImageClasses(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.tensor([0]), ["a"]).names == ("a",)


def test_of_class(data):
    assert torch.equal(data.of_class("b"), data.images[3:4])
    with pytest.raises(ValueError, match="no class 'd'; the first few are a, b, c"):
        data.of_class("d")


def test_select_keeps_the_order_asked_for(data):
    chosen = data.select(["c", "a"])
    assert chosen.names == ("c", "a") and chosen.counts.tolist() == [5, 3]
    assert torch.equal(chosen.images, torch.cat([data.images[4:], data.images[:3]]))


def test_to_keeps_everything(data):
    moved = data.to("cpu")
    assert torch.equal(moved.images, data.images) and moved.names == data.names


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_select_stays_on_the_device(data):
    chosen = data.to("cuda").select(["c", "a"])
    assert chosen.images.device.type == chosen.labels.device.type == "cuda"


def test_rotations_are_classes_of_their_own(data):
    turned = data.with_rotations()
    assert len(turned.names) == len(set(turned.names)) == 12
    assert turned.counts.tolist() == [3, 1, 5] * 4
    for quarter in range(4):
        image = turned.of_class(f"b turned {90 * quarter}°")[0]
        assert torch.equal(image, torch.rot90(data.images[3], quarter, (1, 2)))


def test_only_squares_are_rotated():
    data = ImageClasses.from_groups([("a", torch.zeros(1, 1, 2, 3, dtype=torch.uint8))])
    with pytest.raises(ValueError, match=r"only square images .* not \(2, 3\)"):
        data.with_rotations()

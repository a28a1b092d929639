"""Datasets in torchvision's style."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import Compose, PILToTensor, Resize, ToTensor

from data_utils import ImageClasses, TaskSampler, from_dataset

GREY = torch.arange(4, dtype=torch.uint8).reshape(1, 2, 2)


def test_images_of_torchvision():
    fake = FakeData(40, (3, 8, 9), 4)
    data = from_dataset(fake)
    assert data.images.shape == (40, 3, 8, 9) and data.names == ("0", "1", "2", "3")
    for name in data.names:
        own = [np.asarray(image).transpose(2, 0, 1) for image, label in fake if label == int(name)]
        assert np.array_equal(data.of_class(name), np.stack(own))
    for transform in (ToTensor(), PILToTensor()):
        assert torch.equal(from_dataset(FakeData(40, (3, 8, 9), 4, transform)).images, data.images)
    assert len(TaskSampler(data, ways=2, shots=1, queries=1).sample()) == 4


def test_image_folder_with_names(tmp_path):
    for number, name in enumerate(("seal", "ant")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9 + number, 9), (number, 0, 0)).save(tmp_path / name / "a.png")
    data = from_dataset(ImageFolder(tmp_path, Resize((4, 4))))
    assert data.names == ("ant", "seal") and data.images[:, 0, 0, 0].tolist() == [1, 0]
    assert from_dataset(ImageFolder(tmp_path, Resize((4, 4))), ["a", "b"]).names == ("a", "b")
    with pytest.raises(ValueError, match=r"image 1 has shape \(3, 9, 9\), and image 0 \(3, 9, 10\).*Resize"):
        from_dataset(ImageFolder(tmp_path))


def test_labels_that_do_not_occur_and_every_kind_of_image():
    items = [(GREY, np.int64(7)), (GREY[0], torch.tensor(3)), (GREY / 255, 7), (Image.fromarray(GREY[0].numpy()), 3)]
    data = from_dataset(items)
    assert data.names == ("3", "7") and torch.equal(data.images, GREY.expand(4, 1, 2, 2))
    assert from_dataset(items, [f"class {number}" for number in range(8)]).names == ("class 3", "class 7")


@pytest.mark.parametrize(
    "items, names, words",
    [
        ([], None, "list has no items"),
        (iter([(GREY, 0)]), None, "list_iterator has no items that can be counted"),
        ([GREY], None, "item 0 is a Tensor, not a pair"),
        ([(GREY, 0), (GREY, 0.5)], None, "label of item 1 is 0.5; labels have to be integers"),
        ([(GREY, True)], None, "label of item 0 is True"),
        ([(GREY, "seal")], None, "label of item 0 is 'seal'"),
        ([(GREY, torch.tensor([0, 1]))], None, "labels have to be integers"),
        ([(GREY, torch.tensor(0.0))], None, "labels have to be integers"),
        ([(GREY, 0), (GREY.expand(3, 2, 2), 0)], None, r"image 1 has shape \(3, 2, 2\), and image 0 \(1, 2, 2\)"),
        ([(GREY - 0.5, 0)], None, r"floats outside \[0, 1\]: normalise in TaskSampler"),
        ([(GREY * float("nan"), 0)], None, "floats outside"),
        ([(GREY.long(), 0)], None, "image 0 is torch.int64"),
        ([(GREY.numpy(), 0)], None, "image 0 is a ndarray"),
        ([(GREY, 0)], "seal", "names needs one for each, not seal"),
        ([(GREY, 2)], ["a", "b"], "the labels are 2 … 2"),
        ([(GREY, -1)], ["a", "b"], "the labels are -1"),
        ([(GREY, 0), (GREY, 1)], ["a", "a"], "class 'a' is there twice"),
    ],
)
def test_refused(items, names, words):
    with pytest.raises(ValueError, match=words):
        from_dataset(items, names)


def test_task_sampler_says_what_to_do():
    with pytest.raises(TypeError, match=r"not from FakeData; data_utils.from_dataset\(dataset\)"):
        TaskSampler(FakeData(40, transform=Compose([ToTensor()])))
    assert isinstance(from_dataset(FakeData(20, (3, 4, 4), 2)), ImageClasses)

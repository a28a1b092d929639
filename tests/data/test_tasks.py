"""TaskSampler: episodes are repeatable, disjoint, ordered by class and evenly drawn."""

import itertools
import threading

import pytest
import torch

from data_utils import ImageClasses, TaskSampler


def numbered(sizes: list[int]) -> ImageClasses:
    """Images whose first pixel is their class and whose second pixel is their place in it; the corners differ."""
    groups = []
    for label, size in enumerate(sizes):
        images = torch.zeros(size, 1, 3, 3, dtype=torch.uint8)
        images[:, 0, 0, 0] = label
        images[:, 0, 0, 1] = torch.arange(size)
        groups.append((f"class {label}", images))
    return ImageClasses.from_groups(groups)


DATA = numbered([20] * 10)
UNEQUAL = numbered([6, 30, 7, 50, 6, 9])


def identities(images: torch.Tensor) -> list[tuple[int, int]]:
    """(class, place in class) of each image."""
    return [(int(first), int(second)) for first, second in (images[:, 0, 0, :2] * 255).round().tolist()]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


def flat(episodes) -> list[torch.Tensor]:
    return [tensor for episode in episodes for batch in episode for tensor in batch]


@pytest.mark.parametrize("ways, shots, queries", [(5, 1, 15), (2, 5, 1), (10, 10, 10), (1, 1, 1), (7, 3, 4)])
def test_shapes_types_and_order(ways, shots, queries):
    batch = TaskSampler(DATA, ways, shots, queries, tasks_per_batch=3).sample()
    assert len(batch) == 3
    for support, query in batch:
        for (images, labels), size in ((support, shots), (query, queries)):
            assert images.shape == (ways * size, 1, 3, 3) and images.dtype == torch.float32
            assert 0 <= images.min() and images.max() <= 1
            assert labels.dtype == torch.int64
            assert labels.tolist() == [way for way in range(ways) for _ in range(size)]


@pytest.mark.parametrize("data", [DATA, UNEQUAL], ids=["equal", "unequal"])
def test_support_and_query_share_no_image_but_the_classes(data):
    for (support, support_labels), (query, query_labels) in TaskSampler(data, 4, 2, 4, seed=3).episodes(50):
        everything = identities(support) + identities(query)
        assert len(set(everything)) == len(everything) == 4 * 6
        of_label = {}
        labels = support_labels.tolist() + query_labels.tolist()
        for label, (class_number, place) in zip(labels, everything, strict=True):
            assert of_label.setdefault(label, class_number) == class_number
            assert place < data.counts[class_number]
        assert len(set(of_label.values())) == 4


def test_pixels_are_those_of_the_data():
    (images, _), _ = TaskSampler(DATA, 5, 1, 1).sample()[0]
    known = {tuple(image.flatten().tolist()) for image in DATA.images.float() / 255}
    assert all(tuple(image.flatten().tolist()) in known for image in images)


def test_same_seed_same_episodes():
    one, other, third = (TaskSampler(DATA, seed=seed) for seed in (7, 7, 8))
    first = one.sample()
    assert same(first, other.sample())
    assert not same(first, third.sample())
    assert not same(first, one.sample())


def test_episodes_are_always_the_same_and_do_not_disturb_sample():
    sampler, undisturbed = TaskSampler(DATA, seed=1), TaskSampler(DATA, seed=1)
    before = list(sampler.episodes(5))
    sampler.sample()
    undisturbed.sample()
    assert same(before, sampler.episodes(5))
    assert same(before[:3], sampler.episodes(3))
    assert same(sampler.sample(), undisturbed.sample())
    half_way = sampler.episodes(5)
    next(half_way)
    assert same(sampler.sample(), undisturbed.sample())
    assert same(before[1:], half_way)


def test_state_continues_the_stream():
    sampler = TaskSampler(DATA, seed=2)
    sampler.sample()
    state = sampler.state_dict()
    expected = [sampler.sample(), sampler.sample()]
    resumed = TaskSampler(DATA, seed=99)
    resumed.load_state_dict(state)
    assert same(expected[0], resumed.sample()) and same(expected[1], resumed.sample())


@pytest.mark.parametrize("name", ["ways", "shots", "queries", "tasks_per_batch"])
def test_sizes_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        TaskSampler(DATA, **{name: 0})


def test_too_few_classes():
    with pytest.raises(ValueError, match="11-way episodes need 11 classes; there are 10"):
        TaskSampler(DATA, ways=11)


def test_too_few_images_names_the_class_and_the_counts():
    with pytest.raises(ValueError, match="'class 1' has 4 images; 2 shots . 3 queries need 5"):
        TaskSampler(numbered([9, 4, 8]), ways=2, shots=2, queries=3)
    TaskSampler(numbered([9, 5, 8]), ways=2, shots=2, queries=3).sample()


def test_rotations():
    data = numbered([4] * 3)
    with pytest.raises(ValueError, match="12 classes; there are 3"):
        TaskSampler(data, ways=12, shots=2, queries=2)
    (images, _), _ = TaskSampler(data, ways=12, shots=2, queries=2, rotations=True).sample()[0]
    turned = {tuple(image.flatten().tolist()) for image in data.with_rotations().images.float() / 255}
    assert {tuple(image.flatten().tolist()) for image in images} <= turned


def test_classes_and_images_are_drawn_evenly():
    tasks, generator = 20_000, torch.Generator().manual_seed(0)
    sampler = TaskSampler(UNEQUAL, ways=3, shots=1, queries=1)
    rows = sampler.draw(generator, tasks)  # (tasks, 3, 2)
    classes = UNEQUAL.labels[rows[..., 0]]  # (tasks, 3)
    for way in range(3):
        share = torch.bincount(classes[:, way], minlength=6) / tasks
        assert (share - 1 / 6).abs().max() < 0.0132  # five standard deviations
    pairs = torch.tensor([first * 6 + second for first, second in itertools.permutations(range(6), 2)])
    share = torch.bincount(classes[:, 0] * 6 + classes[:, 1], minlength=36)[pairs] / tasks
    assert (share - 1 / 30).abs().max() < 0.0064
    for label, size in enumerate(UNEQUAL.counts.tolist()):
        for slot in range(2):
            places = rows[..., slot][classes == label] - int(UNEQUAL.labels.lt(label).sum())
            share = torch.bincount(places, minlength=size) / len(places)
            assert len(share) == size
            assert (share - 1 / size).abs().max() < 5 * (1 / size / len(places)) ** 0.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_episodes_are_made_on_the_device():
    sampler = TaskSampler(UNEQUAL.to("cuda"), ways=3, shots=1, queries=1)
    state = sampler.state_dict()
    expected = sampler.sample()
    assert all(tensor.device.type == "cuda" for tensor in flat(expected))
    sampler.load_state_dict(state)
    assert same(expected, sampler.sample())


def test_transform_gets_the_float_images():
    plain = TaskSampler(DATA, shots=2, queries=3, seed=4)
    doubled = TaskSampler(DATA, shots=2, queries=3, seed=4, transform=lambda images: 2 * images)
    for one, two in zip(plain.sample() + list(plain.episodes(3)), doubled.sample() + list(doubled.episodes(3))):
        for (images, labels), (twice, same_labels) in zip(one, two):
            assert torch.equal(2 * images, twice) and torch.equal(labels, same_labels)


def test_a_stream_goes_on_only_on_the_kind_of_device_where_it_began(stripes: ImageClasses) -> None:
    tasks = TaskSampler(stripes, 3, 1, 1)
    before = tasks.state_dict()
    with pytest.raises(ValueError, match="another kind of device than cpu"):
        tasks.load_state_dict({"generator": torch.zeros(16, dtype=torch.uint8)})  # as long as a GPU's
    assert torch.equal(tasks.state_dict()["generator"], before["generator"])


def test_two_threads_do_not_share_a_stream():
    tasks = TaskSampler(DATA, 2, 1, 1)
    drawing, done = threading.Event(), threading.Event()

    def read() -> None:
        tasks.sample()
        drawing.set()
        done.wait(60)

    first = threading.Thread(target=read)
    tasks.sample()  # as in a cell, before a panel is started
    first.start()
    assert drawing.wait(60)
    with pytest.raises(RuntimeError, match="another thread is drawing from this TaskSampler"):
        tasks.sample()
    next(tasks.episodes(1))  # a stream of its own
    done.set()
    first.join()
    alone = TaskSampler(DATA, 2, 1, 1)
    expected = [alone.sample() for _ in range(3)]
    assert same(tasks.sample(), expected[2]), "the refused call took nothing"

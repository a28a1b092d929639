import numpy as np
import pytest
import torch

from data_utils.datasets import glyphs
from data_utils.rendering import render_glyphs
from data_utils.rendering.glyph_characters import class_name, keep_distinct, similarity

SPLITS = ("train", "val", "test")
SAMPLE = "Aðжგ\u1403\u0531\u05d0αع\u2d63"  # one of most scripts; those that are no class are skipped


@pytest.fixture(scope="module")
def data():
    return {split: glyphs.load(split) for split in SPLITS}


@pytest.fixture(scope="module")
def shipped():
    """Images (20, 28, 28) of every class by character."""
    with np.load(glyphs.FILE, allow_pickle=False) as archive:
        return {chr(point): images for point, images in zip(archive["code_points"], archive["images"], strict=True)}


def test_there_are_enough_classes_of_twenty_images(data):
    assert sum(len(part.names) for part in data.values()) >= 500
    for part in data.values():
        assert part.images.shape[1:] == (1, 28, 28)
        assert part.counts.unique().tolist() == [20]


def test_splits_share_no_script_and_no_class(data):
    names = [name for part in data.values() for name in part.names]
    assert len(set(names)) == len(names)
    found = [script for split in SPLITS for script in glyphs.scripts(split)]
    assert len(set(found)) == len(found)
    for split, part in data.items():
        assert {name.partition("/")[0] for name in part.names} == set(glyphs.scripts(split))


def test_the_test_split_has_several_scripts_and_its_share_of_classes(data):
    assert len(glyphs.scripts("test")) >= 3
    total = sum(len(part.names) for part in data.values())
    shares = [len(data[split].names) / total for split in SPLITS]
    assert shares == pytest.approx([0.625, 0.14, 0.235], abs=0.03)


def test_no_image_is_blank_or_cut(data):
    for part in data.values():
        images = part.images[:, 0]
        assert ((images > 127).sum((1, 2)) >= 10).all()
        assert ((images > 127).float().mean((1, 2)) <= 0.6).all()  # ink is the bright side
        border = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], 1)
        assert border.max() <= 64  # antialiasing only


def test_images_of_a_class_differ(data):
    for part in data.values():
        assert len(part.images.flatten(1).unique(dim=0)) == len(part)


def test_no_two_classes_have_nearly_the_same_mean_image(data):
    images = torch.cat([part.images for part in data.values()]).double().flatten(1)
    means = torch.nn.functional.normalize(images.unflatten(0, (-1, 20)).mean(1))  # (classes, 784)
    similarities = means @ means.T - torch.eye(len(means))
    assert similarities.max() < 0.97


def test_a_wrong_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of train, val, test, not 'dev'"):
        glyphs.load("dev")
    with pytest.raises(ValueError, match="split must be one of"):
        glyphs.scripts("dev")


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    content = bytearray(glyphs.FILE.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "glyphs.npz"
    damaged.write_bytes(content)
    monkeypatch.setattr(glyphs, "FILE", damaged)
    with pytest.raises(ValueError, match="damaged: its SHA-256"):
        glyphs.load("test")


def test_rendering_anew_gives_the_shipped_images(shipped):
    characters = [character for character in SAMPLE if character in shipped]
    assert len(characters) >= 5
    for character in characters:
        mean, share = render_glyphs.difference(render_glyphs.render(character), shipped[character])
        assert mean <= render_glyphs.MEAN_TOLERANCE and share <= render_glyphs.FAR_SHARE, character


def test_the_tolerance_tells_classes_and_images_apart(shipped):
    mean, share = render_glyphs.difference(shipped["A"][::-1], shipped["A"])
    assert mean > 5 * render_glyphs.MEAN_TOLERANCE and share > 5 * render_glyphs.FAR_SHARE


def test_check_reports_a_class_that_is_missing_or_other(tmp_path, monkeypatch, shipped):
    file = tmp_path / "some.npz"
    images = np.stack([shipped["A"], shipped["A"]])
    np.savez_compressed(file, names=["A", "B"], code_points=np.array([65, 66]), images=images)
    monkeypatch.setattr(render_glyphs, "choose", lambda: ["A", "B", "C"])
    faults = render_glyphs.check(file)
    assert len(faults) == 2
    assert faults[0].startswith("U+0043") and faults[1].startswith("Latin/B")


def test_of_look_alikes_the_first_is_kept():
    assert keep_distinct("AΑАCcСOoОо") == ["A", "C", "O"]
    assert keep_distinct("bdq") == ["b", "d", "q"]  # mirror images are other characters
    assert similarity("A", "Α") > 0.99 > similarity("A", "R")


def test_class_names():
    assert [class_name(character) for character in "aAαΩა"] == [
        "Latin/a",
        "Latin/A",
        "Greek/alpha",
        "Greek/Omega",
        "Georgian/an",
    ]
    with pytest.raises(ValueError, match="none of the scripts"):
        class_name("中")

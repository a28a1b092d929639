"""Images as people have them: each becomes bytes that look like it, or is refused by name."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_utils.files.image_files import decode, read_image, skipped, tiles

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)  # every grey of 8 bits


def grey(path: Path, **options: bool) -> np.ndarray:
    return np.asarray(decode(path, "L", **options))


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2"])
def test_16_bit_grey(tmp_path, suffix):
    Image.fromarray(RAMP * 257).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(grey(tmp_path / f"a.{suffix}"), RAMP)


def test_16_bit_grey_portable_map(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + (RAMP * 257).astype(">u2").tobytes())
    assert np.array_equal(grey(tmp_path / "a.pgm"), RAMP)


def test_16_bit_grey_with_white_0(tmp_path):
    Image.fromarray(RAMP * 257).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[262] == 0
    assert np.array_equal(grey(tmp_path / "a.tif"), 255 - RAMP)


def test_floats_are_scaled_or_refused(tmp_path):
    Image.fromarray((RAMP / 255).astype(np.float32)).save(tmp_path / "a.tif")
    assert np.array_equal(grey(tmp_path / "a.tif"), RAMP)
    for wrong in (RAMP.astype(np.float32), RAMP.astype(np.float32) - 1, np.full((16, 16), np.nan, np.float32)):
        Image.fromarray(wrong).save(tmp_path / "b.tif")
        with pytest.raises(ValueError, match="b.tif holds floats outside 0 … 1"):
            decode(tmp_path / "b.tif")


def test_32_bit_integers_are_refused(tmp_path):
    Image.fromarray(RAMP.astype(np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif holds 32-bit integers, so its white is not known"):
        decode(tmp_path / "a.tif")


INK = Image.new("L", (16, 16))
INK.paste(255, (4, 4, 12, 12))  # alpha: a square of ink in the middle


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "one grey"])
def test_ink_on_transparent_ground(tmp_path, mode):
    if mode in ("RGBA", "LA"):
        drawing = Image.new(mode, (16, 16))
        drawing.putalpha(INK)
        drawing.save(tmp_path / "a.png")
    elif mode == "palette":
        drawing = INK.point(lambda alpha: alpha // 255).convert("P")
        drawing.putpalette([0, 0, 0] * 2)
        drawing.save(tmp_path / "a.png", transparency=0)
    else:
        drawing = INK.point(lambda alpha: 200 - 200 * alpha // 255)
        drawing.save(tmp_path / "a.png", transparency=200)
    assert np.array_equal(grey(tmp_path / "a.png"), 255 - np.asarray(INK))


def test_photograph_is_turned_by_its_exif_data_if_asked(tmp_path):
    upright = Image.fromarray(RAMP[:8].astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(grey(tmp_path / "a.png", upright=True), RAMP[:8])
    assert grey(tmp_path / "a.png").shape == (16, 8)


def test_cmyk(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif", 16)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="only the first one is used"):
        assert (grey(tmp_path / f"a.{suffix}") == 255).all()


def test_files_that_nobody_looks_at_are_counted_by_their_ending(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("a.HEIC", "b.heic", "c.jpg", "d.PNG", "notes.txt", ".hidden.heic", "README"):
        (tmp_path / "cat" / name).touch()
    assert skipped(tmp_path) == {".heic": 2, ".txt": 1, "README": 1}


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png cannot be decoded: .*decompression bomb"):
        decode(tmp_path / "a.png")


def test_sheet_of_another_size():
    with pytest.raises(ValueError, match=r"it has \(16, 16\) pixels, not \(8, 16\)"):
        tiles(Image.new("L", (16, 16)), "it", 2, 2, 8, 8)
    assert tiles(Image.fromarray(RAMP.astype(np.uint8)), "it", 3, 2, 7, 8)[2, 0, 0] == RAMP[8, 0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_named_pipe_is_no_image(tmp_path):
    from data_utils.datasets.class_folders import image_files

    os.mkfifo(tmp_path / "a.png")
    signal.alarm(5)  # a reader would wait for ever
    assert image_files(tmp_path) == []
    signal.alarm(0)

"""Draws a folder of doodles, for a reader of notebook 10 who has no images of their own at hand."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Points = npt.NDArray[np.float64]  # (n, 2), x to the right, y downwards, in a square of side 10
PENS = ((25, 25, 30), (30, 60, 150), (150, 35, 40), (60, 60, 65), (20, 95, 60))
ORIENTATION, TURNED_RIGHT = 274, 6  # EXIF: "turn the picture by 90 degrees to the right to see it upright"
SIDEWAYS, TRANSPARENT, NO_IMAGE = "fish/07.jpg", "key/03.png", "cup/11.jpg"
TEXT = "key/notes.txt"
DRAWN_AT = 1_700_000_000

# Strokes are separated by |; "ox,y,r" is a circle, "ox,y,r,from,to" a part of one, in degrees clockwise from the right.
THINGS = {
    "anchor": "5,2.6 5,9|3,4 7,4|o5,1.8,.8|o5,5,4,20,160",
    "apple": "o5,6,3,-60,240|5,3.6 5.5,1.5|5.4,2 7,1.4 6.4,2.6 5.4,2",
    "arrow": "1,5 9,5|6,2 9,5 6,8",
    "balloon": "o5,3.8,2.8|5,6.6 4.6,7.6 5.4,8.4 5,9.6",
    "boat": "1,6.5 9,6.5 7.5,9 2.5,9 1,6.5|5,6.5 5,1 8,5.5 5,5.5",
    "bow_tie": "1,2.5 1,7.5 9,2.5 9,7.5 1,2.5",
    "butterfly": "5,2 5,9|o3.2,3.8,1.8|o6.8,3.8,1.8|o3.6,7,1.4|o6.4,7,1.4",
    "candle": "3.5,9 3.5,4.5 6.5,4.5 6.5,9 3.5,9|5,4.5 5,3.5|5,3.5 4.2,2.4 5,.8 5.8,2.4 5,3.5",
    "cat": "o5,5.8,3|2.4,4.4 2.4,1.4 4.4,2.9|7.6,4.4 7.6,1.4 5.6,2.9|4.4,6.8 5,7.3 5.6,6.8",
    "clock": "o5,5,4|5,5 5,2|5,5 7.3,6",
    "cup": "2,2.5 2.6,8.5 6.4,8.5 7,2.5 2,2.5|o7,5,1.7,-80,85",
    "envelope": "1,2.5 9,2.5 9,7.5 1,7.5 1,2.5 5,5.5 9,2.5",
    "eye": "1,5 3,3 5,2.4 7,3 9,5 7,7 5,7.6 3,7 1,5|o5,5,1.6",
    "face": "o5,5,4|o3.5,4,.5|o6.5,4,.5|o5,5.4,2,25,155",
    "fish": "1,5 3,3 5.5,3 7.5,5 5.5,7 3,7 1,5|7.3,5 9.3,3 9.3,7 7.3,5|o3,4.5,.35",
    "flag": "2.5,9.5 2.5,1 8.5,1.8 8.5,5.2 2.5,4.6",
    "glasses": "o2.7,5.5,1.7|o7.3,5.5,1.7|4.4,5.3 5,4.9 5.6,5.3|1,5 .6,3|9,5 9.4,3",
    "hash": "3.5,1 3,9|7,1 6.5,9|1,3.5 9,3.5|1,6.7 9,6.7",
    "heart": "5,9 1.5,5 1.3,3 2.8,1.8 5,3.6 7.2,1.8 8.7,3 8.5,5 5,9",
    "hourglass": "2,1.5 8,1.5 5,5 8,8.5 2,8.5 5,5 2,1.5",
    "house": "2,9 2,5 8,5 8,9 2,9|1,5 5,1 9,5|4.2,9 4.2,6.8 5.8,6.8 5.8,9",
    "ice_cream": "o5,3.6,2.4,170,370|2.4,4 7.6,4 5,9.5 2.4,4",
    "key": "o2.8,5,1.9|4.7,5 9.3,5|7.6,5 7.6,6.8|9.1,5 9.1,6.8",
    "kite": "5,1 7.6,4 5,7.4 2.4,4 5,1 5,7.4|2.4,4 7.6,4|5,7.4 6,8.4 5,9 6,9.8",
    "ladder": "3,1 3,9|7,1 7,9|3,2.6 7,2.6|3,4.6 7,4.6|3,6.6 7,6.6",
    "lamp": "3.4,1.5 6.6,1.5 8,5 2,5 3.4,1.5|5,5 5,9|3,9 7,9",
    "leaf": "5,9.5 5,3|5,1 2.6,3.5 2.4,6 5,8 7.6,6 7.4,3.5 5,1|5,6.4 3.4,5|5,6.4 6.6,5",
    "lightning": "6,1 2.5,5.6 5,5.6 4,9.5 8,4.2 5.4,4.2 6,1",
    "moon": "o5,5,4,60,300|7,1.6 5.4,3.4 5,5 5.4,6.6 7,8.4",
    "mountain": ".5,8.5 3.6,2.5 5.6,6.2 7,4 9.5,8.5 .5,8.5",
    "mushroom": "o5,4.8,3.6,180,360|1.4,4.8 8.6,4.8|4,4.8 3.7,9 6.3,9 6,4.8",
    "note": "o3.2,8,1.2|4.4,8 4.4,1.5 8,2.8 8,4.6",
    "pencil": "1.5,8.5 2.4,5.8 7,1.2 8.8,3 4.2,7.6 1.5,8.5|2.4,5.8 4.2,7.6",
    "snail": "1,8.5 8,8.5 9,6|o5,6,2.5,90,440|o5,6,1.2,0,300|9,6 8.5,4.8|9,6 9.6,4.9",
    "table": "1,4 9,4|2.2,4 2.2,9|7.8,4 7.8,9",
    "tent": "1,8.5 5,1.8 9,8.5 1,8.5|5,1.8 4,8.5|5,1.8 6,8.5",
    "tree": "5,9.5 5,5|5,1 2,5.4 8,5.4 5,1|4.2,9.5 5.8,9.5",
    "umbrella": "o5,5.2,4,180,360|1,5.2 9,5.2|5,1.2 5,8|o4.2,8,.8,0,170",
    "window": "1.5,1.5 8.5,1.5 8.5,8.5 1.5,8.5 1.5,1.5|5,1.5 5,8.5|1.5,5 8.5,5",
    "wine_glass": "2.6,1 3.2,4 5,5.4 6.8,4 7.4,1 2.6,1|5,5.4 5,9|3,9 7,9",
}


def polar(turns: float, distances: npt.ArrayLike) -> Points:
    """Points at these distances from the centre, evenly spread over so many turns that begin at the top."""
    away = np.asarray(distances, float)
    turn = np.linspace(0, 2 * math.pi * turns, len(away)) - math.pi / 2
    return 5 + away[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)


def circle(x: float, y: float, radius: float, start: float = 0, end: float = 360) -> Points:
    turn = np.radians(np.linspace(start, end, 28))
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1)


def strokes(text: str) -> list[Points]:
    """The strokes of a thing."""
    return [
        circle(*map(float, part[1:].split(",")))
        if part[0] == "o"
        else np.array([point.split(",") for point in part.split()], float)
        for part in text.split("|")
    ]


def patterns() -> Iterator[tuple[str, list[Points]]]:
    """What can be counted: tips, petals, corners, rays, turns, waves."""
    for n in (4, 5, 6, 7):
        yield f"star_{n}", [polar(1, [4.3, 1.9] * n + [4.3])]
        yield f"flower_{n}", [polar(1, 2.9 + 1.5 * np.cos(np.linspace(0, 2 * math.pi * n, 24 * n)))]
        yield f"asterisk_{n}", [np.stack([np.full(2, 5.0), tip]) for tip in polar(1, [4.2] * (n + 1))[:n]]
    for n in (3, 4, 5):
        yield f"polygon_{n}", [polar(1, [4.2] * (n + 1))]
        yield f"spiral_{n}", [polar(n - 1, np.linspace(0, 4.4, 24 * n))]
        x = np.linspace(0.7, 9.3, 40)
        yield f"wave_{n}", [np.stack([x, 5 + 2.2 * np.sin(2 * math.pi * (n - 1) * x / 8.6)], 1)]
        rays = zip(polar(1, [2.6] * (n + 4)), polar(1, [4.5] * (n + 4)))
        yield f"sun_{n + 3}", [circle(5, 5, 2), *map(np.stack, rays)]


def by_hand(shape: list[Points], chance: np.random.Generator) -> list[Points]:
    """The strokes as another hand would draw them, within -1 … 1: turned, slanted, stretched, shaky."""
    angle, slant = np.radians(chance.normal(0, 13)), chance.normal(0, 0.15)
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    change = turned @ np.array([[1, slant], [0, 1]]) * chance.uniform(0.62, 0.95, 2) / 5
    waves, phases = chance.normal(0, 0.25, (2, 2, 2)), chance.uniform(0, 2 * math.pi, (2, 2, 1))
    drawn = []
    for points in shape:
        along = np.linspace(0, len(points) - 1, 8 * len(points))
        smooth = np.stack([np.interp(along, range(len(points)), points[:, i]) for i in (0, 1)], 1)
        for wave, phase in zip(waves, phases):
            smooth = smooth + np.sin(smooth @ wave * 2 + phase.T) * 0.4
        drawn.append((smooth - 5 + chance.normal(0, 0.12, 2)) @ change.T)
    return drawn


def sheet(drawn: list[Points], chance: np.random.Generator) -> Image.Image:
    """A photograph of them: any size, a pen of some colour, paper that is not quite white, light from one side."""
    width, height = (int(side) for side in chance.integers(64, 129, 2))
    large = Image.new("L", (2 * width, 2 * height), 0)
    pen, pencil = ImageDraw.Draw(large), round(chance.uniform(0.03, 0.08) * min(width, height))
    middle = np.array([width, height])
    for points in drawn:
        pen.line([tuple(p) for p in (middle + points * middle).tolist()], fill=255, width=2 * pencil, joint="curve")
    ink = np.asarray(large.resize((width, height), Image.Resampling.BOX), float)[..., None] / 255  # (height, width, 1)
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    slope = chance.normal(0, 16, 2)
    paper = chance.uniform(200, 245) + (slope[0] * across + slope[1] * down)[..., None]
    colour = np.array(PENS[int(chance.integers(len(PENS)))])
    photograph = (1 - ink) * paper + ink * colour + chance.normal(0, 5, (height, width, 1))
    return Image.fromarray(photograph.clip(0, 255).astype(np.uint8))


def save(image: Image.Image, file: Path) -> None:
    """Write one doodle, and the three odd ones in the way in which they are odd."""
    name = f"{file.parent.name}/{file.name}"
    if name == NO_IMAGE:
        file.write_text("<!DOCTYPE html><html><body>404: Not Found</body></html>", encoding="utf-8")
    elif name == TRANSPARENT:
        ink = Image.eval(image.convert("L"), lambda level: 255 if level < 130 else 0)
        clear = Image.new("RGBA", image.size)
        clear.putalpha(ink)
        clear.save(file)
    elif name == SIDEWAYS:
        tags = Image.Exif()
        tags[ORIENTATION] = TURNED_RIGHT
        image.transpose(Image.Transpose.ROTATE_90).save(file, exif=tags)
    else:
        image.save(file)


def draw_doodles(folder: str | Path, images: int = 20, seed: int = 0) -> Path:
    """Draw a folder with a folder for each of 64 classes in it; what is there is drawn again.

    The drawings are what somebody might collect on paper and photograph: pictures of many sizes in ink on whitish
    paper, turned, slanted and shaky. Three are odd on purpose: one is sideways with the remedy in its EXIF data, one
    has a transparent ground, and one is a web page under the name of an image. A text file lies among the images.

    Args:
        folder: is made if it is not there.
        images: of each class.
        seed: of all chance.

    Returns:
        The folder.
    """
    chance = np.random.default_rng(seed)
    shapes = {name: strokes(text) for name, text in THINGS.items()} | dict(patterns())
    for name, shape in sorted(shapes.items()):
        place = Path(folder) / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(images):
            suffix = "png" if f"{name}/{number:02d}.png" == TRANSPARENT else "jpg"
            save(sheet(by_hand(shape, chance), chance), place / f"{number:02d}.{suffix}")
    (Path(folder) / TEXT).write_text("drawn on Sunday", encoding="utf-8")
    for file in Path(folder).rglob("*.*"):
        os.utime(file, (DRAWN_AT, DRAWN_AT))  # drawn again, it is the same file, and its conversion is found
    return Path(folder)

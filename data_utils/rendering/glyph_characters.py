"""Which characters become classes of the glyph dataset, and how one of them looks in one typeface.

A character qualifies if it is a letter or digit of one of the scripts in PRECEDENCE, does not decompose into a base
and a mark, and is not itself a variant of another character (stroked, hooked, ligature, presentation form, small
capital, …). Of characters that look alike, in whatever script, only the first is kept: see `keep_distinct`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.font_manager import get_font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

# Upright faces only: italics are other letterforms in Cyrillic, where т turns into m.
PLAIN_FACES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
BOLD_FACES = ("DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "STIXGeneralBol")
FACES = PLAIN_FACES + BOLD_FACES

EM = 160  # pixels per em at which glyphs are drawn, several times the size of the final image
LOOK_ALIKE = 0.94  # similarity from which two characters count as the same, found by looking at pairs in order
CASE_ALIKE = 0.88  # the same for the two cases of one letter, which a reader takes for the same sooner

# Of look-alikes the first is kept: alphabets a reader knows come before those that share their shapes.
PRECEDENCE = (
    *("Latin", "Greek", "Cyrillic", "Armenian", "Georgian", "Hebrew", "Arabic"),
    *("Lao", "NKo", "Tifinagh", "Canadian syllabics"),
)

# Unicode's words for variants of other characters, for fragments of characters and for two characters in one.
_VARIANT = re.compile(
    r" WITH | FINAL|DIGRAPH|LIGATURE|SMALL CAPITAL|FRAGMENT|BROKEN|MONOGRAPH|BILABIAL|BIDENTAL"
    r"|LETTER (AA|AO|AU|AV|AY|OO|TZ|VEND|DB|QP|TH)$|LETTER UK$|YIDDISH"
)
# Alike to the eye, yet below the thresholds.
_ALSO_ALIKE = (
    "rƄƪƼǷƿȜɁɂɥᴈᴑẞꜢꜤꝻƣþꜧⱷ"  # Latin
    "ͲκντυχϘϺϻϡ"  # Greek
    "ѴԀꙌѣ"  # Cyrillic
    "խէթծկձպվքֆ"  # Armenian
    "მოღწჺⴛ"  # Georgian
    "\u07c7\u07d3\u07d4\u07dc\u07e3"  # NKo: seven, ba, pa, fa, na
    "ⴰⴳⴴⵔⵕ"  # Tifinagh
    "ᐝᓐᓒᓪᕀᕟᖤ"  # Canadian syllabics
)


@cache
def _covered(face: str) -> frozenset[int]:
    return frozenset(get_font(_font_file(face)).get_charmap())


def _font_file(face: str) -> Path:
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file(face)), EM, layout_engine=ImageFont.Layout.BASIC)


def faces_with(character: str) -> tuple[str, ...]:
    """The typefaces that have a glyph for the character."""
    return tuple(face for face in FACES if ord(character) in _covered(face))


def draw(character: str, face: str) -> NDArray[np.float64]:
    """(height, width) in [0, 1]: the glyph at EM pixels per em, cropped to its ink, 1 where the ink is."""
    canvas = Image.new("L", (4 * EM, 3 * EM))
    ImageDraw.Draw(canvas).text((EM, EM // 2), character, font=_font(face), fill=255)
    return np.asarray(canvas.crop(canvas.getbbox()), dtype=np.float64) / 255


def script_of(character: str) -> str:
    """The script, by the Unicode name of the character; empty if it is none of the dataset's scripts."""
    unicode_name = unicodedata.name(character, "")
    return next((script for script in PRECEDENCE if unicode_name.startswith(script.upper() + " ")), "")


def class_name(character: str) -> str:
    """Script and letter, as in "Greek/alpha" and "Greek/Alpha"; basic Latin letters stand for themselves."""
    script = script_of(character)
    if not script:
        raise ValueError(f"U+{ord(character):04X} belongs to none of the scripts of the dataset")
    if character.isascii():
        return f"{script}/{character}"
    words = unicodedata.name(character)[len(script) + 1 :]
    if script != "Georgian":  # where "small" is an alphabet of its own
        words = words.replace("SMALL ", "")
    letter = re.sub(r"\b(CAPITAL|LETTER) ", "", words).lower()
    return f"{script}/{letter.capitalize() if unicodedata.category(character) == 'Lu' else letter}"


def _qualifies(character: str) -> bool:
    return (
        unicodedata.category(character) in {"Lu", "Ll", "Lo", "Nd"}
        and script_of(character) != ""
        and unicodedata.normalize("NFKD", character) == character
        and not _VARIANT.search(unicodedata.name(character))
        and bool(faces_with(character))
        and not "\u064b" <= character <= "\u06ff"  # Arabic letters that other languages made by adding dots
        and not _is_marked_syllable(character)
    )


def _is_marked_syllable(character: str) -> bool:
    """Canadian syllabics write vowel length and w as dots, which Unicode does not call marks."""
    return script_of(character) == "Canadian syllabics" and ndimage.label(draw(character, "DejaVuSans") > 0.5)[1] > 1


def _signature(character: str, face: str) -> NDArray[np.float64]:
    """(2304,) of length 1: the glyph centred in 48×48, its longer side 40, slightly blurred."""
    ink = Image.fromarray((draw(character, face) * 255).astype(np.uint8))
    scale = 40 / max(ink.size)
    ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.BOX)
    canvas = Image.new("L", (48, 48))
    canvas.paste(ink, ((48 - ink.width) // 2, (48 - ink.height) // 2))
    blurred = ndimage.gaussian_filter(np.asarray(canvas, dtype=np.float64), 1.5).ravel()
    return blurred / np.linalg.norm(blurred)


def similarity(character: str, other: str) -> float:
    """Largest cosine similarity of the two glyphs, brought to one size, over all pairs of plain faces; 0 … 1."""
    return float((_signatures(character) @ _signatures(other).T).max(initial=0.0))


@cache
def _signatures(character: str) -> NDArray[np.float64]:
    """(faces, 2304), one row for each plain face that has the character."""
    rows = [_signature(character, face) for face in faces_with(character) if face in PLAIN_FACES]
    return np.stack(rows) if rows else np.zeros((0, 2304))


def _repeats_capital(character: str) -> bool:
    capital = character.upper()
    return len(capital) == 1 and capital != character and similarity(character, capital) >= CASE_ALIKE


def keep_distinct(characters: Iterable[str]) -> list[str]:
    """Drop every character that looks like one before it.

    Glyphs are compared at one common size, so that c and C, or a syllable and its small final form, are alike.
    Characters are alike if their `similarity` is LOOK_ALIKE or more. A small letter is dropped if its similarity to
    its capital is CASE_ALIKE or more. Mirror images and rotations of each other remain distinct.
    """
    kept: list[str] = []
    taken: NDArray[np.float64] = np.zeros((0, 2304))
    for character in characters:
        own = _signatures(character)
        if (own @ taken.T).max(initial=0.0) >= LOOK_ALIKE:
            continue
        taken = np.concatenate([taken, own])
        if character not in _ALSO_ALIKE and not _repeats_capital(character):
            kept.append(character)
    return kept


def candidates() -> list[str]:
    """All characters that qualify, script by script in the order of PRECEDENCE, look-alikes included."""
    code_points = sorted(frozenset().union(*(_covered(face) for face in FACES)))
    qualified = [chr(point) for point in code_points if _qualifies(chr(point))]
    return sorted(qualified, key=lambda character: PRECEDENCE.index(script_of(character)))

"""Notebooks of the second edition: their size, their captions, their sentences, and that the solutions in them work."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter

from cxgrad_lite.course.lesson import blanks, check

FOLDER = Path(__file__).parents[2] / "notebooks"
EDITION = [
    "00_start_here",
    "01_tasks",
    "02_maml",
    "03_where_the_gradients_go",
    "03b_who_does_the_work",
    "04_batch_norm_and_scale",
    "05_cxgrad",
    "06_representation_change",
    "07_how_contextual_is_it",
    "08_method_zoo",
    "09_full_gpu_training",
    "10_your_own_data",
]
MOST = {"cells": 40, "figures": 6, "predictions": 6}
MOST_WORDS, MOST_WORDS_OF_PARAGRAPH = 40, 120
FOLDED = re.compile(r"<details>.*?```python\n(.*?)```\s*</details>", re.DOTALL)
# What is not prose: formulas, code, links' addresses, tables, headings.
NO_PROSE = re.compile(
    r"<details>.*?</details>|```.*?```|\$\$.*?\$\$|^#.*?$|^\|.*?$|\]\([^)]*\)", re.DOTALL | re.MULTILINE
)

each = pytest.mark.parametrize("name", EDITION)


def cells(name: str) -> list[dict[str, Any]]:
    notebook: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return notebook["cells"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def figures(cell: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


def paragraphs(name: str) -> Iterator[str]:
    for cell in cells(name):
        if cell["cell_type"] == "markdown":
            for paragraph in re.split(r"\n\s*\n|\n(?=\* |\d\. )", NO_PROSE.sub("", source(cell))):
                if paragraph.strip() and "colab-badge" not in paragraph:
                    yield " ".join(paragraph.split())


def sentences(paragraph: str) -> list[str]:
    """A formula counts as one word."""
    plain = re.sub(r"\$[^$]*\$|`[^`]*`", "X", paragraph)
    return re.split(r"(?<=[.!?:])[*)”]* (?=[*(“]*[A-Z0-9])", plain)


@each
def test_a_notebook_is_no_longer_than_an_evening_allows(name: str) -> None:
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    counts = {
        "cells": len(cells(name)),
        "figures": sum(len(figures(cell)) for cell in code),
        "predictions": sum(source(cell).count("= predict(") for cell in code),
    }
    assert {what: count for what, count in counts.items() if count > MOST[what]} == {}
    assert counts["figures"] and counts["predictions"]


@each
def test_every_figure_has_a_caption_below_it(name: str) -> None:
    every = cells(name)
    number = 0
    for cell, after in zip(every, every[1:]):
        if figures(cell):
            number += len(figures(cell))
            assert source(after).startswith(f"**Figure {number}.** *"), source(cell)[-200:]


@each
def test_every_prediction_is_answered_and_compared(name: str) -> None:
    code = "\n".join(source(cell) for cell in cells(name) if cell["cell_type"] == "code")
    asked, answered = (
        re.findall(r"^(\w+) = predict\(", code, re.MULTILINE),
        re.findall(r"^(\w+)\.reveal\(", code, re.MULTILINE),
    )
    assert sorted(asked) == sorted(answered) and code.count("\ncalibration()") == 1


@each
def test_sentences_and_paragraphs_are_short(name: str) -> None:
    for paragraph in paragraphs(name):
        assert len(paragraph.split()) <= MOST_WORDS_OF_PARAGRAPH, paragraph
        for sentence in sentences(paragraph):
            assert len(sentence.split()) <= MOST_WORDS, sentence


@each
def test_alt_text_and_captions_survive_the_default_template(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    shown = html.unescape(page)
    for cell in cells(name):
        for figure in figures(cell):
            assert f"in words</summary>{figure['metadata']['image/png']['alt']}</details>" in shown
        for question in re.findall(r"= predict\(\s*\"([^\"]*)\"", source(cell)):
            assert question in shown
    assert shown.count("<strong>Figure") == sum(len(figures(cell)) for cell in cells(name))


@each
def test_the_solutions_folded_into_a_notebook_pass_its_checks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(blanks, "display", lambda data, **_: said.append(data["text/plain"]))
    scope: dict[str, Any] = {}
    names: list[str] = []
    for cell in cells(name):
        text = source(cell)
        if cell["cell_type"] == "code" and (text.startswith(("import ", "from ")) or "check(" in text):
            names = re.findall(r"\bcheck\((\w+)\)", text)
            exec(text, scope)
            assert all("open" in sentence for sentence in said[-len(names) :] if names)
        for solution in FOLDED.findall(text):
            exec(solution, scope)
            assert names and "____" not in solution
            assert all(check(scope[one]) is scope[one] for one in names), said[-1]

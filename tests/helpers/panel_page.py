"""A live panel in a page of JupyterLab: its buttons and sliders, and what is drawn there."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CELLS, Lab, ask, errors_in, open_notebook, run_all, run_cell
from matplotlib.image import imread

SECONDS = 60  # before a test gives up

# The traces of a pane, as plotly in the page has them.
TRACES = """(plot, axis) => plot.data.filter(trace => (trace.xaxis ?? 'x') === axis)
    .map(({source, text, x, y}) => ({source, text, x: Array.from(x ?? []), y: Array.from(y ?? [])}))"""

# What is drawn in a pane: its centre and size on the screen.
BOXES = """(plot, selector) => Array.from(plot.querySelectorAll(selector), drawn => {
    const {x, y, width, height} = drawn.getBoundingClientRect();
    return {x: x + width / 2, y: y + height / 2, width, height};
})"""

PNG = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('');
}"""

# Of a text with what lies behind it, as the web's accessibility guidelines (WCAG) define it.
CONTRAST = """text => {
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const linear = value => value <= 10 ? value / 3294 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    let behind = text;
    while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const colours = [getComputedStyle(text).color, getComputedStyle(behind).backgroundColor];
    const [dark, light] = colours.map(colour => luminance(numbers(colour))).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
}"""


def write_notebook(path: Path, cells: list[str]) -> None:
    """A notebook of code cells."""
    empty: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    code = [empty | {"id": f"cell{i}", "source": cell.strip()} for i, cell in enumerate(cells)]
    # Without a kernel's name JupyterLab asks for one.
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    path.write_text(json.dumps({"cells": code, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


@dataclass
class PanelPage:
    """An open notebook with a panel, which is called ``panel`` in its kernel."""

    page: Any
    screenshots: Path
    name: str

    @classmethod
    def open(cls, page: Any, lab: Lab, notebook: Path, screenshots: Path) -> PanelPage:
        """Runs all cells of a notebook and waits until a panel is seen."""
        page.set_viewport_size({"width": 1280, "height": 1300})  # all of a panel is in sight
        open_notebook(page, lab, notebook.name)
        assert errors_in(run_all(page)) == []
        page.locator(".js-plotly-plot .main-svg, img.widget-image").first.wait_for()
        return cls(page, screenshots, notebook.stem)

    def ask(self, expression: str) -> Any:
        return ask(self.page, expression)

    def answers(self, cell: int) -> str:
        """Runs one more cell; what it shows."""
        return str(run_cell(self.page, cell)["outputs"][0]["data"]["text/plain"])

    def until(self, read: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
        """What ``read`` returns, as soon as it is good."""
        for _ in range(SECONDS * 10):
            value = read()
            if good(value):
                return value
            self.page.wait_for_timeout(100)
        raise AssertionError(f"after {SECONDS} s it is still {value!r}")

    def becomes(self, read: Callable[[], Any], expected: Any) -> None:
        """The page follows the kernel, a moment later."""
        close = pytest.approx(expected, abs=1e-6) if isinstance(expected, list) else expected
        try:
            self.until(read, lambda value: value == close)
        except AssertionError:
            assert read() == close

    def click(self, button: str) -> None:
        self.page.locator("button.widget-button", has_text=button).click()

    def slide(self, slider: str, *keys: str) -> None:
        """Moves a slider with the keyboard."""
        handle = self.page.locator(".widget-slider", has_text=slider).locator(".noUi-handle")
        for key in keys:
            handle.press(key)

    def status(self) -> str:
        """What `watch_training` says of itself."""
        return str(self.page.locator(".widget-label", has_text="meta-iterations").last.text_content())

    def iterations(self) -> int:
        match = re.search(r"(\d+) meta-iterations", self.status())
        assert match
        return int(match[1])

    def theme(self, name: str) -> None:
        command = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
        self.page.evaluate(command, f"JupyterLab {name}")
        self.page.locator(f'body[data-jp-theme-name="JupyterLab {name}"]').wait_for(state="attached")

    def contrast(self, text: Any) -> float:
        """Between 1 and 21; 4.5 and more can be read well."""
        return float(text.evaluate(CONTRAST))

    @property
    def plot(self) -> Any:
        return self.page.locator(".js-plotly-plot")

    def number(self, pane: str) -> str:
        """What plotly adds to the names of a pane's axes."""
        i = int(self.ask(f"list(panel.chart.contents).index({pane!r})"))
        return str(i + 1) if i else ""

    def traces(self, pane: str) -> list[dict[str, Any]]:
        """``x``, ``y``, ``text`` and ``source`` of each trace of a pane."""
        traces: list[dict[str, Any]] = self.plot.evaluate(TRACES, f"x{self.number(pane)}")
        return traces

    def heights(self, pane: str) -> list[list[float]]:
        """y of each trace of a pane."""
        return [trace["y"] for trace in self.traces(pane)]

    def boxes(self, pane: str, shape: str) -> list[dict[str, float]]:
        """Centre, width and height, in pixels, of each shape that is drawn in a pane."""
        number = self.number(pane)
        boxes: list[dict[str, float]] = self.plot.evaluate(BOXES, f".subplot.x{number}y{number} {shape}")
        return boxes

    def hover(self, pane: str, point: int) -> None:
        """Moves the mouse over a point, counted in the order of drawing."""
        number = self.number(pane)
        self.plot.locator(f".subplot.x{number}y{number} path.point").nth(point).scroll_into_view_if_needed()
        box = self.boxes(pane, "path.point")[point]
        self.page.mouse.move(box["x"] - 5, box["y"])
        self.page.mouse.move(box["x"], box["y"], steps=5)

    def image(self, pane: str) -> np.ndarray:
        """(height, width, 4) the picture in a pane of images; the test fails if it is upside down."""
        low, high = self.plot.evaluate("(plot, axis) => plot._fullLayout[axis].range", f"yaxis{self.number(pane)}")
        assert low > high, "rows are counted from the top"
        source = self.traces(pane)[0]["source"]
        return imread(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))

    def png(self) -> str:
        """The fallback's picture as the page has it, in hexadecimal digits."""
        return str(self.page.locator("img.widget-image").evaluate(PNG))

    def shows_the_png(self) -> None:
        """Waits until the page has the fallback's picture of the kernel."""
        self.until(lambda: self.png() == self.ask("panel.chart.widget.value.hex()"), bool)

    def photograph(self, what: str) -> None:
        """Keeps a picture of the panel."""
        panel = self.page.locator(".jp-OutputArea-child").filter(has=self.page.locator(".widget-vbox")).last
        panel.screenshot(path=self.screenshots / f"{self.name}_{what}.png")

    def close(self) -> None:
        """Closes the panel and waits until its static picture, with its words, has taken its place."""
        words = self.ask("[panel.close(), panel.alt()][1]")
        self.page.locator(".jp-RenderedImage img").wait_for()
        assert self.page.locator(".widget-vbox").count() == 0
        (output,) = self.page.evaluate(CELLS)[1]["outputs"]
        # JupyterLab shows a picture without its alternative text; other readers of the notebook have it.
        assert set(output["data"]) == {"image/png", "text/plain"} and output["data"]["text/plain"] == words
        assert output["metadata"]["image/png"]["alt"] == words

"""One description of a chart, drawn either by plotly in the browser or by matplotlib as a picture.

A chart has named panes; a pane shows marks. Marks are values: to change what is seen, set other marks.

>>> chart = Chart({"loss": Pane("query loss", "meta-iteration"), "norms": Pane("gradient norm", log_y=True)})
>>> chart.set("loss", Line([1, 2, 3], [1.6, 1.2, 0.9], "MAML", METHOD_COLOURS["MAML"]))
>>> chart.set("norms", Bars(LAYERS, [1, 2, 3, 4, 5], [LAYER_COLOURS[layer] for layer in LAYERS]))
>>> chart.draw()
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol

import ipywidgets

from ..plots.draw import figure_of
from ..plots.marks import Content, Grid, Mark, Pane, Plotted
from ..plots.style import Picture

Backend = Literal["plotly", "png"]


class Surface(Protocol):
    """What a backend does. ``widget`` is what the panel shows."""

    widget: Any

    def draw(self, contents: Mapping[str, Content]) -> None: ...

    def plotted(self, name: str) -> Plotted: ...

    def on_hover(self, name: str, callback: Callable[[int, int], None]) -> bool: ...


def choose_backend() -> Backend:
    """plotly's FigureWidget where it works: plotly 6, anywidget and ipywidgets 8, and not in Colab; else a picture."""
    if "google.colab" in sys.modules:
        return "png"
    needed = {"plotly": 6, "ipywidgets": 8, "anywidget": 0}
    try:
        new_enough = all(int(version(name).split(".")[0]) >= major for name, major in needed.items())
    except PackageNotFoundError:
        return "png"
    return "plotly" if new_enough else "png"


class Chart:
    """Named panes in a grid, as a widget and as a static picture.

    `set` only stores; `draw` brings everything that was set to the screen at once. Both may be called from any thread.

    Args:
        panes: name → `Pane`, in reading order.
        columns: panes per row.
        widths: relative widths of the columns; default: equal.
        inches: width and height of the whole chart, in inches; default: 9 by 2.7 per row.
        backend: default: `choose_backend`.
    """

    def __init__(
        self,
        panes: Mapping[str, Pane],
        columns: int = 2,
        widths: Sequence[float] = (),
        inches: tuple[float, float] | None = None,
        backend: Backend | None = None,
    ) -> None:
        columns = min(columns, len(panes))
        rows = -(-len(panes) // columns)
        self.grid = Grid(columns, rows, tuple(widths) or (1.0,) * columns, inches or (9.0, 2.7 * rows))
        self.contents = {name: Content(pane, pane.title) for name, pane in panes.items()}
        self.backend: Backend = choose_backend() if backend is None else backend
        self._lock, self._drawn_at = threading.RLock(), -float("inf")
        self.surface = make_surface(self.backend, self.grid, self.contents)

    @property
    def widget(self) -> ipywidgets.DOMWidget:
        return self.surface.widget

    def set(self, name: str, *marks: Mark, title: str | None = None) -> None:
        """Replace the marks of a pane, and its title if one is given; seen after the next `draw`.

        Raises:
            KeyError: if there is no such pane.
        """
        with self._lock:
            old = self.contents[name]
            self.contents[name] = Content(old.pane, old.title if title is None else title, marks)

    def draw(self, every: float = 0.0) -> bool:
        """Bring what was set to the screen, unless the last drawing is less than ``every`` seconds old."""
        with self._lock:
            if time.monotonic() - self._drawn_at < every:
                return False
            self.surface.draw(self.contents)
            self._drawn_at = time.monotonic()
            return True

    def plotted(self, name: str) -> Plotted:
        """(x, y) of each mark of a pane, read back from what was drawn, for tests.

        x of bars are their labels; of images, x is empty and y are their captions.
        """
        with self._lock:
            return self.surface.plotted(name)

    def on_hover(self, name: str, callback: Callable[[int, int], None]) -> bool:
        """Call ``callback(mark, point)``, both counted from 0, when the mouse is over a point of a pane.

        Returns False, and does nothing, where the backend knows of no mouse: offer an index slider there.
        """
        return self.surface.on_hover(name, callback)

    def picture(self, alt: str) -> Picture:
        """What is set now, as a static figure."""
        with self._lock:
            return Picture(figure_of(self.grid, self.contents, constrained=True), alt)


def make_surface(backend: Backend, grid: Grid, contents: Mapping[str, Content]) -> Surface:
    if backend == "plotly":
        from .on_plotly import PlotlySurface

        return PlotlySurface(grid, contents)
    if backend != "png":
        raise ValueError(f"backend must be 'plotly' or 'png', not {backend!r}")
    from .on_png import PngSurface

    return PngSurface(grid, contents)


def every_widget(root: ipywidgets.Widget) -> Iterable[ipywidgets.Widget]:
    """A widget and all that belong to it, children first."""
    for child in getattr(root, "children", ()):
        yield from every_widget(child)
    for name in ("style", "layout"):
        part = getattr(root, name, None)
        if isinstance(part, ipywidgets.Widget):
            yield part
    yield root

"""A chart as plotly's FigureWidget: marks become traces, and only what changed is sent to the browser."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.image import imsave

from ..plots.draw import SCREEN_DPI, montage
from ..plots.marks import Bars, Content, Corner, Grid, Images, Limits, Line, Mark, Pane, Plotted, Points

WIDEST = 840  # pixels; what JupyterLab has beside its file browser in a window of 1280


def css(colour: str) -> str:
    """A colour that plotly 5 knows as well: it has no eight-digit ones, with opacity at the end."""
    if not (colour.startswith("#") and len(colour) == 9):
        return colour
    red, green, blue, opacity = bytes.fromhex(colour[1:])
    return f"rgba({red},{green},{blue},{opacity / 255:.3f})"


def line_trace(mark: Line) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": list(mark.x),
        "y": list(mark.y),
        "mode": "lines+markers" if mark.markers else "lines",
        "line": {"color": css(mark.colour), "dash": "dash" if mark.dashed else "solid", "width": 2},
    }


def points_trace(mark: Points) -> dict[str, Any]:
    colour = mark.colour if isinstance(mark.colour, str) else list(mark.colour)
    return {
        "type": "scatter",
        "x": list(mark.x),
        "y": list(mark.y),
        "mode": "markers",
        "marker": {
            "color": colour,
            "symbol": mark.symbol if mark.filled else f"{mark.symbol}-open",
            "size": mark.size,
        },
        "text": list(mark.hover),
        "hoverinfo": "text" if mark.hover else "all",
    }


def bars_trace(mark: Bars) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": list(mark.labels),
        "y": mark.heights,
        "marker": {"color": list(mark.colours)},
        "text": mark.texts or None,
        "textposition": "outside",
        "textangle": 0,
        "cliponaxis": False,
        "error_y": {"type": "data", "array": list(mark.errors), "visible": bool(mark.errors)},
    }


def images_traces(mark: Images) -> list[dict[str, Any]]:
    """The montage, and a trace of text for the captions."""
    sheet, places = montage(mark)
    buffer = io.BytesIO()
    imsave(buffer, sheet, format="png")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    x, y = [place[0] for place in places], [place[1] for place in places]
    captions = list(mark.captions) or [""] * len(places)
    text = {"type": "scatter", "mode": "text", "x": x, "y": y, "text": captions, "hoverinfo": "skip"}
    return [{"type": "image", "source": source, "hoverinfo": "skip"}, {**text, "textfont": {"size": 11}}]


def traces_of(mark: Mark) -> list[dict[str, Any]]:
    if isinstance(mark, Images):
        return images_traces(mark)
    if isinstance(mark, Line):
        trace = line_trace(mark)
    else:
        trace = bars_trace(mark) if isinstance(mark, Bars) else points_trace(mark)
    return [{**trace, "name": mark.label}]


def limits(pair: Limits, log: bool) -> dict[str, Any]:
    if pair == (None, None):
        return {"autorange": True}
    if pair == (0, None):
        return {"autorange": True, "rangemode": "tozero"}
    return {"range": [math.log10(v) if log and v is not None else v for v in pair]}


def axis(label: str, pair: Limits, log: bool, pane: Pane) -> dict[str, Any]:
    kind = {"type": "log", "dtick": 1} if log else {}
    shown = (
        {"visible": False}
        if pane.hide_axes
        else {"showline": True, "linecolor": "#444444", "ticks": "outside", "tickfont": {"size": 10}}
    )
    return {"title": {"text": label, "standoff": 6}, **kind, **limits(pair, log), **shown}


def legend(corner: Corner, x: list[float], y: list[float]) -> dict[str, Any]:
    vertical, horizontal = (corner or "upper right").split()
    top, right = vertical == "upper", horizontal == "right"
    return {
        "x": x[right], "y": y[top], "xanchor": horizontal, "yanchor": "top" if top else "bottom",
        "bgcolor": "rgba(255,255,255,0.6)", "font": {"size": 10}, "tracegroupgap": 0,
    }  # fmt: skip


def kinds(traces: Sequence[Mapping[str, Any]]) -> list[str]:
    return [trace["type"] for trace in traces]


def leaves(trace: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A trace without its levels: {"marker": {"size": 8}} is {"marker.size": 8}."""
    flat: dict[str, Any] = {}
    for key, value in trace.items():
        flat |= leaves(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return flat


def hovered(callback: Callable[[int, int], None], mark: int, trace: Any, points: Any, state: Any) -> None:
    for point in points.point_inds:
        callback(mark, point)


class PlotlySurface:
    """The chart as a FigureWidget. Traces of a pane are kept while its marks are of the same kinds."""

    def __init__(self, grid: Grid, contents: Mapping[str, Content]) -> None:
        from plotly.graph_objects import FigureWidget
        from plotly.subplots import make_subplots

        figure = make_subplots(
            grid.rows,
            grid.columns,
            column_widths=list(grid.widths),
            subplot_titles=[content.title or " " for content in contents.values()],
            horizontal_spacing=0.65 / grid.inches[0],
            vertical_spacing=min(0.85 / grid.inches[1], 1 / grid.rows),
        )
        self.numbers = {name: str(i + 1) if i else "" for i, name in enumerate(contents)}  # as plotly names its axes
        for name, content in contents.items():
            self._lay_out(figure, self.numbers[name], content.pane)
        figure.update_annotations(font_size=13)
        wide, high = (round(SCREEN_DPI * inches) for inches in grid.inches)
        figure.update_layout(
            # Without a width, plotly takes 700 pixels, because in JupyterLab it is drawn before it has a place.
            template="plotly_white", width=min(wide, WIDEST), height=high, barmode="group",
            margin={"l": 55, "r": 10, "t": 30, "b": 40}, font={"size": 11},
            modebar={"orientation": "v"},  # else it covers a title
        )  # fmt: skip
        self.widget = FigureWidget(figure)
        self.shown: dict[str, list[dict[str, Any]]] = {name: [] for name in contents}
        self.traces: dict[str, list[Any]] = {name: [] for name in contents}
        self.hovers: dict[str, Callable[[int, int], None]] = {}
        self.draw(contents)

    def _lay_out(self, figure: Any, number: str, pane: Pane) -> None:
        x, y = figure.layout[f"xaxis{number}"], figure.layout[f"yaxis{number}"]
        x.update(axis(pane.x_label, pane.x_limits, pane.log_x, pane))
        y.update(axis(pane.y_label, pane.y_limits, pane.log_y, pane))
        if pane.equal:
            y.update(scaleanchor=f"x{number}", scaleratio=1)
        figure.update_layout({f"legend{number}": legend(pane.legend, x.domain, y.domain)})

    def draw(self, contents: Mapping[str, Content]) -> None:
        new = {name: self._traces(name, content) for name, content in contents.items()}
        others = [name for name, traces in new.items() if kinds(traces) != kinds(self.shown[name])]
        changes: dict[int, dict[str, Any]] = {}
        places = {trace.uid: i for i, trace in enumerate(self.widget.data)}
        for name in (name for name in new if name not in others):
            for old, before, after in zip(self.traces[name], self.shown[name], new[name]):
                changes |= {} if before == after else {places[old.uid]: leaves(after)}
        titles = {f"annotations[{i}].text": content.title or " " for i, content in enumerate(contents.values())}
        self._update(changes, titles)
        for name in others:
            self._replace(name, new[name])
        self.shown = new

    def _update(self, changes: Mapping[int, Mapping[str, Any]], layout: dict[str, Any]) -> None:
        """One message for all traces that changed, each with all of its values.

        With ``batch_update`` plotly sends only those that changed. What one trace keeps while another gets a new one is
        then lost from the figure as it is drawn next: in a cell that changes a panel before it is shown, for instance.
        """
        from plotly.basedatatypes import Undefined

        paths = dict.fromkeys(path for values in changes.values() for path in values)
        data = {path: [values.get(path, Undefined) for values in changes.values()] for path in paths}
        self.widget.plotly_update(data, layout, list(changes))

    def _traces(self, name: str, content: Content) -> list[dict[str, Any]]:
        number = self.numbers[name]
        place = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        traces = [{**trace, **place} for mark in content.marks for trace in traces_of(mark)]
        for trace in traces:
            if trace["type"] != "image":
                trace |= {"legend": f"legend{number}", "showlegend": bool(content.pane.legend and trace.get("name"))}
        return traces

    def _replace(self, name: str, new: list[dict[str, Any]]) -> None:
        """Other marks than before: the old traces go, new ones come."""
        if self.traces[name]:
            gone = {trace.uid for trace in self.traces[name]}
            self.widget.data = [trace for trace in self.widget.data if trace.uid not in gone]
        before = len(self.widget.data)
        self.widget.add_traces(new)
        self.traces[name] = list(self.widget.data[before:])
        if "image" in kinds(new):  # an image counts its rows from the top
            self.widget.layout[f"yaxis{self.numbers[name]}"].autorange = "reversed"
        if name in self.hovers:
            self.on_hover(name, self.hovers[name])

    def on_hover(self, name: str, callback: Callable[[int, int], None]) -> bool:
        self.hovers[name] = callback
        for number, trace in enumerate(self.traces[name]):
            trace.on_hover(partial(hovered, callback, number))
        return True

    def plotted(self, name: str) -> Plotted:
        curves: Plotted = []
        for trace in self.traces[name]:
            if trace.type == "image":
                continue
            is_caption = trace.mode == "text" if trace.type == "scatter" else False
            curves.append(([], list(trace.text)) if is_caption else (list(trace.x), list(trace.y)))
        return curves

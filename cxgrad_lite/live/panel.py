"""The base of the live panels: a chart, controls, a background thread, a static figure for readers without a kernel.

How to write one (see `scale` for a short example):

1. Describe the chart once: ``Chart({"name": Pane(...)})``; the marks are `Line`, `Bars`, `Points` and `Images` (see
   `plots.marks`). Both backends and the static picture follow from it.
2. Subclass `Panel`; call ``super().__init__(chart, controls)``, ``controls`` being rows of widgets.
3. Connect: ``self.on(slider, self.redraw)``. The method is called without arguments when the slider's value changes, or
   the button is clicked; it reads ``slider.value`` itself. In it: ``chart.set(...)`` as often as needed, then
   ``chart.draw()``. Only one such method runs at a time. For the mouse: ``chart.on_hover(pane, weak(self.hovered))``.
4. Long work: ``self.background(self.compute)`` runs it in a thread; ``self.wait()`` waits for it. The thread may use
   ``chart.set``, ``chart.draw(every=…)`` and ``widget.value = …``; it never prints and never uses pyplot. It should
   look at ``self.closing`` (a `threading.Event`) from time to time. A job that has not begun is replaced by the next.
   Threads and callbacks hold a panel only weakly: a panel that nobody refers to is closed.
5. Override `alt`: one or two sentences that say what the chart shows now.
6. Put `remembers` over the function that makes the panel: `code` then gives the line that brings it back.

What goes wrong in a connected method or in the thread is shown in the panel, and its traceback is ``panel.error``.
Several threads may use one method, but only one may change its weights; others then see them change between two
looks. A panel that needs them to stand still works on a copy.
"""

from __future__ import annotations

import functools
import html
import inspect
import threading
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import ipywidgets
from IPython.display import DisplayHandle, display

from ..core.method import check_batch
from ..core.nets import Conv4
from ..core.outer import check_tasks
from ..plots.marks import Bars, Images, Line, Pane, Points
from ..plots.style import Picture
from ..training.evaluation import check_methods
from ..training.machine import Worker
from ..training.state import TrainConfig
from .charts import Chart, every_widget

__all__ = ["Bars", "Chart", "Images", "Line", "Pane", "Panel", "Points", "weak"]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# No text colour of our own: the page's can be read in a dark theme too.
ALERT = "border-left: 4px solid #D55E00; padding-left: 8px; white-space: normal"
Make = TypeVar("Make", bound=Callable[..., Any])


def weak(method: Callable[..., Any]) -> Callable[..., Any]:
    """A bound method that does not keep its object alive: nothing happens when the object is gone."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> Any:
        alive = reference()
        return alive(*args) if alive else None

    return call


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse arguments of the wrong kind, by the names that they have in all panels.

    Raises:
        TypeError, ValueError, FloatingPointError: naming what was given, or what is wrong with a task.
    """
    methods = [given["method"]] if "method" in given else given.get("methods", ())
    methods = list(methods.values()) if isinstance(methods, Mapping) else methods
    if "method" in given or "methods" in given:
        check_methods(methods if isinstance(methods, list | tuple) else [methods])
    for name, kind in {"net": Conv4, "config": TrainConfig}.items():
        if not isinstance(given.get(name), kind | None):
            raise TypeError(f"{name} must be a {kind.__name__}, not {type(given[name]).__name__}")
    if given.get("per_class", 1) < 1:
        raise ValueError(f"per_class must be at least 1, not {given['per_class']}")
    if "tasks" in given:
        check_tasks(given["tasks"], "episodes")
    if "task" in given:
        check_task(given["task"], methods[0])


def check_task(task: Any, method: Any) -> None:
    """Refuse what is no (support, query) of at most the classes that the method tells apart."""
    if not isinstance(task, tuple | list) or len(task) != 2:
        raise TypeError(f"a task is (support, query), such as next(tasks.episodes(1)), not {type(task).__name__}")
    support, query = (len(check_batch(batch, f"{kind} set", method)) for batch, kind in zip(task, ("support", "query")))
    if query > max(support, method.ways):
        raise ValueError(f"a query label is {query - 1}, and the task has {support} classes, from 0 on")


def remembers(make: Make) -> Make:
    """Let the panels that a function makes know the call that made them, for `Panel.code`; wrong arguments are refused.

    Objects stand there under the names of their arguments.
    """

    @functools.wraps(make)
    def call(*args: Any, **options: Any) -> Any:
        signature = inspect.signature(make)
        given = signature.bind(*args, **options).arguments
        check_arguments(given)
        panel = make(*args, **options)
        panel.maker = make.__name__
        for name, value in given.items():
            default = signature.parameters[name].default
            if value is not default:
                word = repr(value) if isinstance(value, int | float | str) else name
                panel.arguments[name] = word if default is inspect.Parameter.empty else f"{name}={word}"
        return panel

    return call  # type: ignore[return-value]


def release(worker: Worker, root: ipywidgets.Widget) -> None:
    """Stop the worker, then close every widget. It holds no reference to the panel, so it can run when that is gone."""
    worker.stop()
    widgets = list(every_widget(root))
    root.children = ()  # the page must remove the views while their models can still talk to the kernel
    for widget in widgets:
        widget.close()


class Panel:
    """A chart with controls; the last value of a notebook cell, or `display` it.

    A live notebook shows the widget. The same output holds a PNG with alternative text, which is what remains on
    GitHub, in nbviewer, on paper, and after `close`.

    Args:
        chart: what is drawn.
        controls: rows of widgets above it.

    Attributes:
        widget: the panel as an `ipywidgets.VBox`.
        error: traceback of the last exception, or None.
        maker, arguments: the function that made the panel, and its arguments as `code` writes them, by name.
        closing: set when the panel is being closed; long work should then end.
    """

    def __init__(self, chart: Chart, controls: Sequence[Sequence[ipywidgets.Widget]] = ()) -> None:
        self.chart = chart
        self.error: str | None = None
        self.maker, self.arguments = "", dict[str, str]()
        self._first: dict[ipywidgets.Widget, Any] = {}  # control: the value that the panel opened with
        self._trouble = ipywidgets.HTML(layout={"display": "none"})
        rows = [ipywidgets.HBox(list(row), layout={"flex_flow": "row wrap"}) for row in controls]
        self.widget = ipywidgets.VBox([*rows, self._trouble, chart.widget])
        self._lock = threading.RLock()
        self._handle: DisplayHandle | None = None
        self._worker = Worker(weak(self.fail))
        self.closing = self._worker.closing
        self._release = weakref.finalize(self, release, self._worker, self.widget)

    def alt(self) -> str:
        """What the chart shows now, in words."""
        return "; ".join(content.title for content in self.chart.contents.values() if content.title)

    def picture(self) -> Picture:
        """What the panel shows now, as a static figure."""
        return self.chart.picture(self.alt())

    def on(self, control: ipywidgets.Widget, method: Callable[[], None]) -> None:
        """Call a method of this panel when a button is clicked or the value of another control changes."""
        call = weak(self._guarded)
        name = method.__name__
        if isinstance(control, ipywidgets.Button):
            control.on_click(lambda _: call(name))
        else:
            self._first.setdefault(control, control.value)
            control.observe(lambda _: call(name), names="value")

    def _guarded(self, name: str) -> None:
        with self._lock:
            if self.closing.is_set():
                return
            self.fail(None)
            try:
                getattr(self, name)()
            except Exception as error:
                self.fail(error)

    def code(self) -> str:
        """One line of Python that makes this panel anew, with its controls as they are now.

        It holds the call that made the panel, and each control that was moved. What was trained is in the method.
        """
        places: dict[ipywidgets.Widget, str] = {}
        for name, value in vars(self).items():
            parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            found = [(f"panel.{name}", value), *((f"panel.{name}[{key!r}]", part) for key, part in parts)]
            places |= {part: place for place, part in found if isinstance(part, ipywidgets.Widget)}
        moved = [f"{places[c]}.value = {c.value!r}" for c, first in self._first.items() if c.value != first]
        call = [f"panel = {self.maker}({', '.join(self.arguments.values())})"] if self.maker else []
        return "; ".join([*call, *moved, "panel"])

    def fail(self, error: BaseException | None) -> None:
        """Show an exception in the panel, or, with None, show that there is none."""
        if error is None:
            if self.error:
                self.error, self._trouble.layout.display = None, "none"
            return
        self.error = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        line = html.escape(f"{type(error).__name__}: {error}")
        self._trouble.value = (
            f'<div role="alert" style="{ALERT}"><b>{line}</b>'
            f"<details><summary>where</summary><pre>{html.escape(self.error)}</pre></details></div>"
        )
        self._trouble.layout.display = ""

    def background(self, method: Callable[[], None]) -> None:
        """Run a method of this panel in the panel's thread."""
        self._worker.submit(weak(method))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the thread has nothing left to do; False if that took longer than ``timeout`` seconds."""
        return self._worker.wait(timeout)

    @property
    def closed(self) -> bool:
        return not self._release.alive

    def close(self) -> None:
        """End the thread and free the widgets; the static figure stays in the notebook. May be called twice."""
        if self.closed:
            return
        self._release()
        self._show_again()

    def _show_again(self) -> None:
        """Bring the static figure in the notebook up to date."""
        if self._handle is not None:
            data, metadata = self._repr_mimebundle_()
            self._handle.update(data, metadata=metadata, raw=True)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self.picture()._repr_mimebundle_()
        if not self.closed:
            data[WIDGET_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return data, metadata

    def _ipython_display_(self, **_: Any) -> None:
        data, metadata = self._repr_mimebundle_()
        self._handle = display(data, metadata=metadata, raw=True, display_id=True)

"""Curves that follow a run while it happens."""

from __future__ import annotations

import time

from IPython.display import DisplayHandle, display

from ..plots.figures import training_curves
from ..plots.style import Picture
from ..training.loop import History


class LiveCurves:
    """A callback for `meta_train` that draws loss and accuracy in the notebook while training runs.

    The picture is replaced in place; what stays in the notebook is the last one. With another ``label`` the next run's
    curves join those of the runs before it.

    Args:
        label: name of the curve; a method's name gives it the method's colour.
        seconds: end the run when it has taken this long and made ``at_least`` meta-iterations; None: never.
        at_least: so that a slow machine, too, has something to show.
        every: seconds between two drawings.
        window: running mean over this many meta-iterations.
        low: where the axis of accuracies begins, in percent.
    """

    def __init__(
        self,
        label: str,
        seconds: float | None = None,
        at_least: int = 30,
        every: float = 1.0,
        window: int = 10,
        low: float = 0,
    ) -> None:
        self.label, self.seconds, self.at_least, self.every = label, seconds, at_least, every
        self.window, self.low = window, low
        self._runs: dict[str, History] = {}
        self._handle: DisplayHandle | None = None
        self._drawn_at = -float("inf")

    def __call__(self, history: History) -> bool:
        enough = len(history.loss) >= self.at_least
        over = self.seconds is not None and enough and history.seconds >= self.seconds
        if over or time.monotonic() - self._drawn_at >= self.every:
            self.draw(history)
        return over

    def picture(self, history: History) -> Picture:
        self._runs[self.label] = history
        runs = {label: {"loss": run.loss, "accuracy": run.accuracy} for label, run in self._runs.items()}
        picture = training_curves(runs, window=self.window)
        for accuracies in picture.figure.axes[1:]:  # there are none where a run counts no accuracy
            accuracies.set(ylim=(self.low, 100))
        return picture

    def draw(self, history: History) -> None:
        """Draw the state of the run now."""
        if self._handle is None:
            self._handle = display(self.picture(history), display_id=True)
        else:
            self._handle.update(self.picture(history))
        self._drawn_at = time.monotonic()

"""Predictions that are committed: a guess before the answer, the answer over the guess, and how good the guesses were.

    guess = predict("Where is the best start?", pick=["nearer to A", "nearer to B"])
    ...                                                             # the notebook computes it
    guess.reveal("nearer to A" if w < 0.5 else "nearer to B", why={"nearer to B": "The steep task …"})

Nothing waits: *Run all* passes both cells. Where a kernel is running, the answer stays covered until the guess is
committed or the reader asks for it. A stored notebook shows question and answer as text and picture. Guesses stay in
the kernel's memory.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
from IPython.display import Markdown, display

from ...plots.style import Picture
from .forms import Bars, Curve, Form, Order, Pick

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SURENESS = ("guessing", "fairly sure", "certain")
ASKED: dict[str, Prediction] = {}  # by question, so that a cell that runs again asks again


def predict(
    question: str,
    pick: Sequence[str] = (),
    order: Sequence[str] = (),
    bars: Sequence[str] = (),
    curve: Sequence[float] = (),
    low: float = 0.0,
    high: float = 100.0,
    unit: str = " %",
    label: str | None = None,
    x_label: str = "",
) -> Prediction:
    """Ask for a prediction, as the last value of a cell or by itself.

    Args:
        question: one or two sentences of Markdown without formulas.
        pick: the choices.
        order: items to be put in order, the largest first.
        bars: names of bars to be dragged.
        curve: values of x at which a curve is sketched, with ``x_label``.
        low, high, unit: the scale of bars and curve.
        label: what is written at that scale, or at the bars of an order.

    Raises:
        ValueError: if not exactly one of pick, order, bars and curve is given.
    """
    if sum(map(bool, map(list, (pick, order, bars, curve)))) != 1:
        raise ValueError("give exactly one of pick, order, bars and curve")
    scale = "accuracy on new tasks" if label is None else label
    form: Form
    if pick:
        form = Pick(pick)
    elif order:
        form = Order(order, label or "")
    elif bars:
        form = Bars(bars, low, high, unit, scale)
    else:
        form = Curve(curve, low, high, unit, scale, x_label)
    ASKED[question] = asked = Prediction(question, form)
    display(asked)
    return asked


def nearest(choices: Mapping[str, float], value: float) -> str:
    """The choice whose number is closest to a measured value."""
    return min(choices, key=lambda choice: abs(choices[choice] - value))


def show(widget: ipywidgets.Widget, stored: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Display a widget, and for readers without a kernel what is stored in its place."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({WIDGET_VIEW: view, **stored}, metadata=metadata or {}, raw=True)


class Prediction:
    """A question, its form, and what was answered.

    Attributes:
        guess: what was committed; None before that.
        sure: how sure the reader was, one of `SURENESS`.
        right: whether it was right; None while guess or answer is missing, or where the answer had been seen before.
    """

    def __init__(self, question: str, form: Form) -> None:
        self.question, self.form = question, form
        self.guess: Any = None
        self.sure = SURENESS[0]
        self.right: bool | None = None
        self.peeked = False
        self._answer: tuple[Any, Mapping[str, str]] | None = None
        self._errors: Any = None
        self._more: Picture | None = None
        self.sureness = ipywidgets.ToggleButtons(options=SURENESS, style={"button_width": "auto"})
        self.commit = ipywidgets.Button(description="Commit", button_style="primary")
        self.message, self.said, self.result = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.VBox()
        self.commit.on_click(self.on_commit)
        title = ipywidgets.HTML(f"<b>Predict first.</b> {html.escape(question)}")
        row = ipywidgets.HBox([self.sureness, self.commit, self.message], layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([title, form.widget, row, self.said])

    def _ipython_display_(self, **_: Any) -> None:
        text = f"**Predict first.** {self.question}\n\n{self.form.told}"
        show(self.widget, {"text/markdown": text, "text/plain": text})

    def on_commit(self, _: object = None) -> None:
        """Take the guess; it cannot be changed afterwards."""
        guess = self.form.guess()
        if guess is None:
            self.message.value = "Your guess is not complete yet."
            return
        self.guess, self.sure = guess, self.sureness.value
        for control in (self.commit, self.sureness, *controls(self.form.widget)):
            control.disabled = True
        self.message.value = (
            "Committed. Run on; the answer is computed below." if self._answer is None else "Committed."
        )
        self.compare()

    def reveal(
        self,
        answer: Any,
        why: Mapping[str, str] | None = None,
        errors: Any = None,
        picture: Picture | None = None,
    ) -> None:
        """Show the answer over the guess.

        Args:
            answer: for pick the right choice; for order item → number; for bars and curve numbers, or item → number.
            why: what to say about a particular mistake: for pick by choice, for order by item, for bars and curve by
                item and direction ("untrained low"), or by direction ("low", "high").
            errors: half-widths of intervals, in the form of the answer.
            picture: shows more than the form's own; a guess is drawn into that one, above it.
        """
        self._answer, self._errors, self._more = (answer, why or {}), errors, picture
        text, shown = (
            f"**Answer:** {self.form.answer(answer, why or {})}",
            picture or self.form.draw(answer, None, errors),
        )
        stored: dict[str, Any] = {"text/markdown": text, "text/plain": text}
        metadata: dict[str, Any] = {}
        if shown is not None:
            stored, metadata = shown._repr_mimebundle_()
        peek = ipywidgets.Button(description="Show it without a guess", layout={"width": "max-content"})
        peek.on_click(self.on_peek)
        covered = ipywidgets.HTML("The answer is here. Commit your guess above to see both.")
        self.cover = ipywidgets.HBox([covered, peek])
        show(ipywidgets.VBox([self.cover, self.result]), stored, metadata)
        self.compare()

    def on_peek(self, _: object = None) -> None:
        assert self._answer is not None
        self.peeked = True
        self.fill("Without a guess: " + html.escape(self.form.answer(*self._answer)))

    def compare(self) -> None:
        """Once guess and answer are both known: the picture of both, and the sentence."""
        if self._answer is None or self.guess is None:
            return
        right, sentence = self.form.judge(self.guess, *self._answer)
        self.right = None if self.peeked else right
        self.fill(f"<b>{'Right' if right else 'Not quite'}.</b> {html.escape(sentence)}")

    def fill(self, sentence: str) -> None:
        """Put the answer in place of its cover."""
        assert self._answer is not None
        self.cover.layout.display = "none"
        own = self.form.draw(self._answer[0], self.guess, self._errors) if self.guess or not self._more else None
        pictures = [picture.png() for picture in (own, self._more) if picture is not None]
        images = [ipywidgets.Image(value=png, layout={"max_width": "760px"}) for png in pictures]
        self.said.value = f'<div role="status">{sentence}</div>'
        self.result.children = [*images, self.said]


def controls(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """The sliders and buttons in a box, or the widget itself."""
    inside = [control for child in getattr(widget, "children", ()) for control in controls(child)]
    return inside or ([widget] if hasattr(widget, "disabled") else [])


def calibration() -> Markdown:
    """What the predictions of this notebook were worth: right or wrong, by how sure the reader was."""
    judged = [asked for asked in ASKED.values() if asked.right is not None]
    left = len(ASKED) - len(judged)
    if not judged:
        return Markdown(
            f"This notebook asked for {len(ASKED)} predictions, and none of them was committed before its answer was "
            "seen. Commit some, run this cell again, and it compares how sure you were with how often you were right."
        )
    rows = ["| you were | predictions | right |", "|---|---|---|"]
    for sure in SURENESS:
        those = [asked.right for asked in judged if asked.sure == sure]
        if those:
            rows.append(f"| {sure} | {len(those)} | {sum(map(bool, those))} |")
    wrong = [asked.question for asked in judged if asked.sure == SURENESS[-1] and not asked.right]
    last = (
        f"You were certain and mistaken here: *{wrong[0]}*" if wrong else "Nothing that you were certain of was wrong."
    )
    return Markdown("\n".join(rows) + f"\n\n{last}" + (f" Left open or seen before: {left}." if left else ""))

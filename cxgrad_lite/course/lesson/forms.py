"""The four kinds of guess: pick one, put in order, drag bars, sketch a curve. Each works by keyboard alone.

A form has the widgets that a guess is made with, reads the guess off them, says what was wrong with it, and draws
guess and answer in one picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets

from ...plots.marks import GREY
from ...plots.style import LAYER_COLOURS, Picture, axes, colour, stage_colours

Why = Mapping[str, str]
INK, WIDE = "#222222", {"width": "max-content"}
GUESS: dict[str, Any] = {"color": "black", "marker": "D", "markerfacecolor": "white", "markersize": 7, "zorder": 5}
CLOSE = 0.1  # a guess within a tenth of the scale is right


def tints(items: Sequence[str]) -> list[str]:
    """The colours of layers and methods, paler for what is untrained; grey for what is neither."""
    bases = [LAYER_COLOURS.get(item) or colour(item) or GREY for item in items]
    return stage_colours(items, bases)


class Form:
    """One kind of guess; ``told`` is the question's list of possibilities as Markdown, for readers without a kernel."""

    widget: ipywidgets.Widget
    told: str

    def guess(self) -> Any:
        """What the widgets say now; None while it is incomplete."""
        raise NotImplementedError

    def judge(self, guess: Any, answer: Any, why: Why) -> tuple[bool, str]:
        """Whether a guess is right, and one sentence about this guess."""
        raise NotImplementedError

    def answer(self, answer: Any, why: Why) -> str:
        """The answer in words."""
        raise NotImplementedError

    def draw(self, answer: Any, guess: Any, errors: Any) -> Picture | None:
        """The answer with the guess, if there is one, over it; None where words are enough."""
        return None


class Pick(Form):
    """One of a few answers. ``why``: choice → what to say to somebody who picked it."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = list(choices)
        # Not radio buttons: JupyterLab keeps their arrow keys for itself.
        self.widget = ipywidgets.ToggleButtons(options=self.choices, value=None, style={"button_width": "auto"})
        self.told = "\n".join(f"- {choice}" for choice in self.choices)

    def guess(self) -> str | None:
        return self.widget.value

    def judge(self, guess: str, answer: str, why: Why) -> tuple[bool, str]:
        if answer not in self.choices:
            raise ValueError(f"the answer {answer!r} is none of the choices {self.choices}")
        if guess == answer:
            return True, why.get(answer, "")
        return False, f"You picked “{guess}”; it is “{answer}”. {why.get(guess, '')}"

    def answer(self, answer: str, why: Why) -> str:
        return f"{answer}. {why.get(answer, '')}"


class Order(Form):
    """Items from the largest to the smallest: press their buttons in that order."""

    def __init__(self, items: Sequence[str], label: str = "") -> None:
        self.items, self.label = list(items), label
        self.pressed: list[str] = []
        self.buttons = {item: ipywidgets.Button(description=item, layout=WIDE) for item in self.items}
        again = ipywidgets.Button(description="start again", layout=WIDE)
        self.line = ipywidgets.HTML("largest first: …")
        for item, button in self.buttons.items():
            button.on_click(partial(self.press, item))
        again.on_click(self.clear)
        self.widget = ipywidgets.VBox([ipywidgets.HBox([*self.buttons.values(), again]), self.line])
        self.told = "Put in order, the largest first: " + ", ".join(self.items) + "."

    def press(self, item: str, _: object = None) -> None:
        self.pressed.append(item)
        self.buttons[item].disabled = True
        self.show()

    def clear(self, _: object = None) -> None:
        self.pressed = []
        for button in self.buttons.values():
            button.disabled = False
        self.show()

    def show(self) -> None:
        rest = [] if len(self.pressed) == len(self.items) else ["…"]
        self.line.value = "largest first: " + " › ".join(self.pressed + rest)

    def guess(self) -> list[str] | None:
        return list(self.pressed) if len(self.pressed) == len(self.items) else None

    def judge(self, guess: list[str], answer: Mapping[str, float], why: Why) -> tuple[bool, str]:
        pairs = [(first, second) for i, first in enumerate(guess) for second in guess[i + 1 :]]
        wrong = [pair for pair in pairs if answer[pair[0]] < answer[pair[1]]]
        if not wrong:
            return True, "Your order is the measured one."
        first, second = max(wrong, key=lambda pair: answer[pair[1]] - answer[pair[0]])
        said = (
            f"You put {first} before {second}, but {second} has {answer[second]:.3g} and {first} {answer[first]:.3g}."
        )
        return False, f"{said} {why.get(first) or why.get(second, '')}"

    def answer(self, answer: Mapping[str, float], why: Why) -> str:
        ranked = sorted(self.items, key=lambda item: -answer[item])
        return "largest first: " + ", ".join(f"{item} {answer[item]:.3g}" for item in ranked) + "."

    def draw(self, answer: Any, guess: Any, errors: Any) -> Picture:
        ranked = sorted(self.items, key=lambda item: -answer[item])
        figure, (ax,) = axes(7, 0.6 + 0.36 * len(ranked))
        ax.barh(ranked, [answer[item] for item in ranked], color=tints(ranked), height=0.65)
        for row, item in enumerate(ranked):
            place = f"  your place {guess.index(item) + 1}" if guess else ""
            ax.text(answer[item], row, f" {answer[item]:.3g}{place}", va="center", fontsize=9)
        ax.margins(x=0.25)
        ax.set_xlabel(self.label)
        ax.invert_yaxis()
        return Picture(figure, "Bars in the measured order, " + self.answer(answer, {}))


class Numbers(Form):
    """Numbers on one scale. ``why``: item + " low" or " high" → what to say to somebody who guessed too low or high."""

    def __init__(self, items: Sequence[Any], low: float, high: float, unit: str, label: str) -> None:
        self.items, self.low, self.high = [str(item) for item in items], low, high
        self.unit, self.label = unit, label
        self.touched = False
        upright = {} if isinstance(self, Bars) else {"orientation": "vertical", "layout": {"width": "64px"}}
        if not upright:
            name = 8 * max(map(len, self.items))  # pixels, so that the bars begin below each other
            upright = {"style": {"description_width": f"{name}px"}, "layout": {"width": f"{name + 320}px"}}
        middle, step = (low + high) / 2, (high - low) / 100
        make = partial(ipywidgets.FloatSlider, min=low, max=high, step=step, value=middle, readout_format=".3g")
        self.sliders = [make(description=item, **upright) for item in self.items]
        for slider in self.sliders:
            slider.observe(self.touch, "value")

    @property
    def scale(self) -> str:
        """What is written at the axis."""
        return ", ".join(part for part in (self.label, self.unit.strip()) if part)

    def touch(self, _: object) -> None:
        self.touched = True

    def guess(self) -> list[float] | None:
        return [slider.value for slider in self.sliders] if self.touched else None

    def values(self, answer: Any) -> list[float]:
        """The answer in the order of the items."""
        found = (
            [float(answer[item]) for item in self.items] if isinstance(answer, Mapping) else [float(a) for a in answer]
        )
        if len(found) != len(self.items):
            raise ValueError(f"the answer has {len(found)} numbers for {len(self.items)} items")
        return found

    def judge(self, guess: list[float], answer: Any, why: Why) -> tuple[bool, str]:
        truth = self.values(answer)
        off = [g - a for g, a in zip(guess, truth)]
        i = max(range(len(off)), key=lambda j: abs(off[j]))
        way = "high" if off[i] > 0 else "low"
        right = abs(off[i]) <= CLOSE * (self.high - self.low)
        said = f"Furthest off: {self.items[i]}, with {truth[i]:.3g}{self.unit} where you said {guess[i]:.3g}{self.unit}"
        if right:
            return True, f"All within a tenth of the scale. {said}."
        return False, f"{said}, so your guess is too {way}. {why.get(f'{self.items[i]} {way}') or why.get(way, '')}"

    def answer(self, answer: Any, why: Why) -> str:
        return ", ".join(f"{item} {value:.3g}{self.unit}" for item, value in zip(self.items, self.values(answer))) + "."


class Bars(Numbers):
    """A bar for each item."""

    def __init__(self, items: Sequence[str], low: float, high: float, unit: str, label: str) -> None:
        super().__init__(items, low, high, unit, label)
        self.widget = ipywidgets.VBox(self.sliders)
        self.told = f"Drag a bar for each ({low:g} to {high:g}{unit}): " + ", ".join(self.items) + "."

    def draw(self, answer: Any, guess: Any, errors: Any) -> Picture:
        truth, rows = self.values(answer), range(len(self.items))
        figure, (ax,) = axes(7.5, 0.7 + 0.42 * len(truth))
        half = self.values(errors) if errors is not None else [0.0] * len(truth)
        ax.barh(rows, truth, xerr=half if errors is not None else None, color=tints(self.items), height=0.65, capsize=3)
        for row, (value, ci) in enumerate(zip(truth, half)):
            interval = f" ± {ci:.1f}" if errors is not None else ""
            ax.text(value + ci, row, f"  {value:.1f}{interval}", va="center", fontsize=9)
        if guess:
            ax.plot(guess, rows, linestyle="none", label="your guess", **GUESS)
            ax.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 1))
        ax.set_yticks(rows, self.items)
        ax.set(xlim=(self.low, self.high + 0.15 * (self.high - self.low)), xlabel=self.scale)
        ax.set_xticks([tick for tick in ax.get_xticks() if self.low <= tick <= self.high])
        ax.invert_yaxis()
        return Picture(figure, "Bars: " + self.answer(answer, {}))


class Curve(Numbers):
    """A number at each x; the sliders stand side by side, so that their knobs sketch the curve."""

    def __init__(self, x: Sequence[Any], low: float, high: float, unit: str, label: str, x_label: str) -> None:
        super().__init__(x, low, high, unit, label)
        self.x, self.x_label = list(x), x_label
        self.widget = ipywidgets.HBox(self.sliders)
        self.told = f"Sketch a curve ({low:g} to {high:g}{unit}) over {x_label}: " + ", ".join(self.items) + "."

    def draw(self, answer: Any, guess: Any, errors: Any) -> Picture:
        truth = self.values(answer)
        half = self.values(errors) if errors is not None else None
        figure, (ax,) = axes(6.5, 2.8)
        ax.errorbar(self.x, truth, half, color=INK, marker="o", capsize=3, label="measured")
        if guess:
            ax.plot(self.x, guess, linestyle="--", label="your guess", **GUESS)
            ax.legend(frameon=False, fontsize=9)
        ax.set(xlabel=self.x_label, ylabel=self.scale, ylim=(self.low, self.high), xticks=self.x)
        return Picture(figure, f"Curve over {self.x_label}: " + self.answer(answer, {}))

"""Buttons and sliders of `watch_training`."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets


def make_buttons() -> list[ipywidgets.Button]:
    """Start, pause, step and reset."""
    looks = {
        "start": ("play", "train until paused"),
        "pause": ("pause", "pause after this meta-iteration"),
        "step": ("step-forward", "make one meta-iteration"),
        "reset": ("undo", "back to the first parameters and tasks"),
    }
    return [
        ipywidgets.Button(description=name, icon=icon, tooltip=tooltip, layout={"width": "90px"})
        for name, (icon, tooltip) in looks.items()
    ]


def make_sliders(method: Any) -> dict[str, ipywidgets.Widget]:
    """A slider for ``inner_lr`` and one for ``inner_steps``, by name, where the method has them."""
    sliders: dict[str, ipywidgets.Widget] = {}
    rate, steps = getattr(method, "inner_lr", None), getattr(method, "inner_steps", None)
    # A method that learns its rates only starts from inner_lr: a slider would do nothing.
    if isinstance(rate, (int, float)) and rate > 0 and not hasattr(method, "rates"):
        low, high = min(-3, math.floor(math.log10(rate))), max(0, math.ceil(math.log10(rate)))
        sliders["inner_lr"] = ipywidgets.FloatLogSlider(
            rate, min=low, max=high, step=0.05, description="inner rate", readout_format=".3g"
        )
    if isinstance(steps, int):
        sliders["inner_steps"] = ipywidgets.IntSlider(
            steps, min=1 if steps else 0, max=max(10, steps), description="inner steps"
        )
    return sliders

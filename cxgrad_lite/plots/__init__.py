"""Static figures in one visual language."""

from .figures import (
    LAYER_COLOURS,
    METHOD_COLOURS,
    Picture,
    accuracy_bars,
    axes,
    colour,
    norms_by_layer,
    show_episode,
    show_image,
    show_predictions,
    training_curves,
)
from .representations import (
    CLASS_COLOURS,
    before_after,
    cka_by_layer,
    class_style,
    draw_paths,
    interval,
    limits,
)

__all__ = [
    "CLASS_COLOURS",
    "LAYER_COLOURS",
    "METHOD_COLOURS",
    "Picture",
    "accuracy_bars",
    "axes",
    "before_after",
    "cka_by_layer",
    "class_style",
    "colour",
    "draw_paths",
    "interval",
    "limits",
    "norms_by_layer",
    "show_episode",
    "show_image",
    "show_predictions",
    "training_curves",
]

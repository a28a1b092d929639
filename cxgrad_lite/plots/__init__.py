"""Static figures in one visual language."""

from .evidence import (
    accuracies_by_seed,
    accuracy_dots,
    bars_by_setting,
    curves_by_block,
    gap_over_training,
    paired_differences,
)
from .figures import (
    accuracy_bars,
    accuracy_by_steps,
    norms_by_layer,
    show_episode,
    show_image,
    show_predictions,
    training_curves,
)
from .own_images import as_the_network_sees, confusions
from .representations import (
    before_after,
    cka_by_layer,
    draw_paths,
    interval,
    limits,
)
from .style import CLASS_COLOURS, LAYER_COLOURS, METHOD_COLOURS, Picture, axes, class_style, colour

__all__ = [
    "CLASS_COLOURS",
    "LAYER_COLOURS",
    "METHOD_COLOURS",
    "Picture",
    "accuracies_by_seed",
    "accuracy_bars",
    "accuracy_by_steps",
    "accuracy_dots",
    "as_the_network_sees",
    "axes",
    "bars_by_setting",
    "before_after",
    "cka_by_layer",
    "class_style",
    "colour",
    "confusions",
    "curves_by_block",
    "draw_paths",
    "gap_over_training",
    "interval",
    "limits",
    "norms_by_layer",
    "paired_differences",
    "show_episode",
    "show_image",
    "show_predictions",
    "training_curves",
]

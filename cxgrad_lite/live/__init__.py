"""Live panels: see `panel` for how to write one."""

from .adaptation import watch_adaptation
from .curves import LiveCurves
from .drawing import draw_and_adapt
from .embedding import compare_cka, compare_embeddings
from .scale import scale_explorer
from .training import watch_training

__all__ = [
    "LiveCurves",
    "compare_cka",
    "compare_embeddings",
    "draw_and_adapt",
    "scale_explorer",
    "watch_adaptation",
    "watch_training",
]

"""The outer loop and everything that keeps it running: engines, states, checkpoints, evaluation."""

from ..core.outer import meta_gradient
from .checkpoints import load_checkpoint, save_checkpoint
from .engines import arithmetic, device_of
from .evaluation import Evaluation, evaluate
from .loop import meta_steps, meta_train
from .resume import RunFolder
from .state import History, Run, TrainConfig

__all__ = [
    "Evaluation",
    "History",
    "Run",
    "RunFolder",
    "TrainConfig",
    "arithmetic",
    "device_of",
    "evaluate",
    "load_checkpoint",
    "meta_gradient",
    "meta_steps",
    "meta_train",
    "save_checkpoint",
]

"""The outer loop and everything that keeps it running: engines, states, checkpoints, evaluation."""

from .checkpoints import load_checkpoint, save_checkpoint
from .engines import arithmetic, device_of
from .evaluation import Evaluation, evaluate
from .folder import RunFolder
from .loop import History, TrainConfig, meta_gradient, meta_train

__all__ = [
    "Evaluation",
    "History",
    "RunFolder",
    "TrainConfig",
    "arithmetic",
    "device_of",
    "evaluate",
    "load_checkpoint",
    "meta_gradient",
    "meta_train",
    "save_checkpoint",
]

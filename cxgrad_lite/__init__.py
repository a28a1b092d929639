"""Gradient-based few-shot learning, from MAML to Contextual Gradient Scaling."""

from .checkpoints import load_checkpoint, save_checkpoint
from .cxgrad import CxGrad
from .evaluation import Evaluation, evaluate
from .maml import ANIL, BOIL, MAML, StepTrace
from .nets import Conv4
from .registry import METHODS
from .training import History, TrainConfig, meta_train

__version__ = "0.1.0"
__all__ = [
    "ANIL",
    "BOIL",
    "METHODS",
    "MAML",
    "Conv4",
    "CxGrad",
    "Evaluation",
    "History",
    "StepTrace",
    "TrainConfig",
    "evaluate",
    "load_checkpoint",
    "meta_train",
    "save_checkpoint",
]

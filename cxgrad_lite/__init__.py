"""Gradient-based few-shot learning, from MAML to Contextual Gradient Scaling."""

from .checkpoints import load_checkpoint, save_checkpoint
from .conditioned import ALFA, CAVIA, L2F, ModGrad
from .cxgrad import CxGrad
from .evaluation import Evaluation, evaluate
from .learned_rates import MAMLPlusPlus, MetaSGD
from .maml import ANIL, BOIL, MAML
from .method import Method, StepTrace
from .metric import MatchingNet, ProtoNet, RelationNet
from .nets import Conv4
from .registry import METHODS
from .training import History, TrainConfig, meta_train

__version__ = "0.1.0"
__all__ = [
    "ALFA",
    "ANIL",
    "BOIL",
    "CAVIA",
    "L2F",
    "METHODS",
    "MAML",
    "Conv4",
    "CxGrad",
    "Evaluation",
    "History",
    "MAMLPlusPlus",
    "MatchingNet",
    "MetaSGD",
    "Method",
    "ModGrad",
    "ProtoNet",
    "RelationNet",
    "StepTrace",
    "TrainConfig",
    "evaluate",
    "load_checkpoint",
    "meta_train",
    "save_checkpoint",
]

"""The public names of the package."""

from .core.cxgrad import CxGrad
from .core.maml import ANIL, BOIL, MAML
from .core.method import Method, StepTrace
from .core.nets import Conv4
from .training.checkpoints import load_checkpoint, save_checkpoint
from .training.evaluation import Evaluation, evaluate
from .training.loop import History, TrainConfig, meta_train
from .zoo.conditioned import ALFA, CAVIA, L2F, ModGrad
from .zoo.learned_rates import MAMLPlusPlus, MetaSGD
from .zoo.metric import MatchingNet, NearestPixels, ProtoNet, RelationNet
from .zoo.registry import METHODS

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
    "NearestPixels",
    "ProtoNet",
    "RelationNet",
    "StepTrace",
    "TrainConfig",
    "evaluate",
    "load_checkpoint",
    "meta_train",
    "save_checkpoint",
]

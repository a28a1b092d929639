"""One table of all methods: name → class. Adding a method is one class, and its name here."""

from ..core.cxgrad import CxGrad
from ..core.maml import ANIL, BOIL, MAML
from ..core.method import Method
from .conditioned import ALFA, CAVIA, L2F, ModGrad
from .learned_rates import MAMLPlusPlus, MetaSGD
from .metric import MatchingNet, ProtoNet, RelationNet

COMPARING: tuple[type[Method], ...] = (MatchingNet, ProtoNet, RelationNet)
ADAPTING: tuple[type[Method], ...] = (MAML, ANIL, BOIL, MetaSGD, MAMLPlusPlus, CAVIA, L2F, ALFA, ModGrad, CxGrad)
METHODS = {method.__name__: method for method in COMPARING + ADAPTING}

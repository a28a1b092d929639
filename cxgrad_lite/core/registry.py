"""One table of all methods: name → class. Adding a method is one class, and its name here."""

from .conditioned import ALFA, CAVIA, L2F, ModGrad
from .cxgrad import CxGrad
from .learned_rates import MAMLPlusPlus, MetaSGD
from .maml import ANIL, BOIL, MAML
from .method import Method
from .metric import MatchingNet, ProtoNet, RelationNet

COMPARING: tuple[type[Method], ...] = (MatchingNet, ProtoNet, RelationNet)
ADAPTING: tuple[type[Method], ...] = (MAML, ANIL, BOIL, MetaSGD, MAMLPlusPlus, CAVIA, L2F, ALFA, ModGrad, CxGrad)
METHODS = {method.__name__: method for method in COMPARING + ADAPTING}

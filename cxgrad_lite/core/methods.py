"""One table of all methods: name → class. Adding a method is one class and one row."""

from __future__ import annotations

from .conditioned import ALFA, CAVIA, L2F, ModGrad
from .cxgrad import CxGrad
from .learned_rates import MAMLPlusPlus, MetaSGD
from .maml import ANIL, BOIL, MAML
from .method import Method
from .metric import MatchingNet, ProtoNet, RelationNet

METHODS: dict[str, type[Method]] = {
    "MatchingNet": MatchingNet,
    "ProtoNet": ProtoNet,
    "RelationNet": RelationNet,
    "MAML": MAML,
    "ANIL": ANIL,
    "BOIL": BOIL,
    "MetaSGD": MetaSGD,
    "MAMLPlusPlus": MAMLPlusPlus,
    "CAVIA": CAVIA,
    "L2F": L2F,
    "ALFA": ALFA,
    "ModGrad": ModGrad,
    "CxGrad": CxGrad,
}

"""One table of all methods: name → class. Adding a method is one class and one row."""

from __future__ import annotations

from .cxgrad import CxGrad
from .maml import ANIL, BOIL, MAML

METHODS: dict[str, type[MAML]] = {cls.__name__: cls for cls in (MAML, ANIL, BOIL, CxGrad)}

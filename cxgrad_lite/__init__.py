"""Gradient-based few-shot learning, from MAML to Contextual Gradient Scaling."""

from .cxgrad import CxGrad
from .maml import ANIL, BOIL, MAML, StepTrace
from .nets import Conv4

__version__ = "0.1.0"

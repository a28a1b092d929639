"""What a student reads first: the network, the two loops, MAML, and CxGrad. Ten relatives are in `zoo`."""

from .method import Batch, Method, StepTrace, Theta, fast
from .nets import Conv4
from .outer import Episode, Tasks, accuracy

__all__ = ["Batch", "Conv4", "Episode", "Method", "StepTrace", "Tasks", "Theta", "accuracy", "fast"]

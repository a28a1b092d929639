"""What a student reads: the network, the thirteen methods, and what the outer loop works on."""

from .method import Batch, Method, StepTrace, Theta, fast
from .nets import Conv4
from .outer import Episode, Tasks, accuracy
from .registry import METHODS

__all__ = ["METHODS", "Batch", "Conv4", "Episode", "Method", "StepTrace", "Tasks", "Theta", "accuracy", "fast"]

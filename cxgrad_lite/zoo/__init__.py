"""The relatives of MAML and CxGrad, each a class on the same core, and the table of all thirteen methods."""

from .registry import METHODS

__all__ = ["METHODS"]

"""Training runs by name: published settings, the runs that the course ships, and their checkpoints."""

from . import check_data_utils  # noqa: F401
from .course import best_recipe, rate_search
from .published import PUBLISHED
from .recipe import Recipe, has_inner_rate, pretrained

__all__ = [
    "PUBLISHED",
    "Recipe",
    "best_recipe",
    "has_inner_rate",
    "pretrained",
    "rate_search",
]

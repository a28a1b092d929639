"""Training runs by name: published settings, the runs that the course ships, and their checkpoints."""

from .published import PUBLISHED
from .recipe import Recipe, best_recipe, has_inner_rate, pretrained, rate_search

__all__ = [
    "PUBLISHED",
    "Recipe",
    "best_recipe",
    "has_inner_rate",
    "pretrained",
    "rate_search",
]

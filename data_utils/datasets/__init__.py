"""Datasets by name, each a module with ``load``."""

"""Converted images in the cache folder: written once, opened in a moment, checked."""

from .convert import NewSplit, Split, StoreError, fault, manifests, open_or_convert, opened_folders

__all__ = ["NewSplit", "Split", "StoreError", "fault", "manifests", "open_or_convert", "opened_folders"]

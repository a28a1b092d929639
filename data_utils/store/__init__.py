"""Converted splits in the cache folder."""

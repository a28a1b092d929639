"""Draws images: ``datasets/glyphs.npz``, and the folder of notebook 10. No module imports it."""

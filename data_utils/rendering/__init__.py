"""Makes ``datasets/glyphs.npz``; nothing imports it."""

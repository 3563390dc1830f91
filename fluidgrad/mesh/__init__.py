"""Meshes: what is next to what, where the points are, and the generators that make them from blocks, curves and files."""

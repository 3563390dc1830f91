"""Meshes: what is next to what, where the points are, how they move, and meshes read from files."""

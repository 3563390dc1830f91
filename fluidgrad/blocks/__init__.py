"""Meshes made of blocks: their points are functions of the numbers given, on a topology that does not depend on them."""

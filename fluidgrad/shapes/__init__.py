"""Curves: outlines of bodies and walls, made of numbers that a derivative can be asked in."""

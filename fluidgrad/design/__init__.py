"""Designs: studies, their variables, the search, its methods and its journal."""

"""fluidgrad."""

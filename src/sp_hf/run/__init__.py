"""A run on disk: its arguments and recipe, its folder, its checkpoints, its record."""

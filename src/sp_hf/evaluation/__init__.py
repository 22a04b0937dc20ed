"""Measuring what frozen vision models know of what is in an image, and of where."""

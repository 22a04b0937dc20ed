"""Absolute position of patch tokens, from frozen features."""

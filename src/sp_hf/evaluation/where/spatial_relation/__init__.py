"""Spatial relations of objects, from frozen features."""

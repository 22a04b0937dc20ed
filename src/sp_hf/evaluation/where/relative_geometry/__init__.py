"""Relative position and scale of crops, from frozen features."""

"""Predictions a pixel from patch tokens: the base of segmentation and depth."""

"""Semantic segmentation by a linear head."""

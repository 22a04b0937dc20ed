"""Objectives that teach what is in an image."""

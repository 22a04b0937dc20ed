"""Objectives that teach where things are in an image."""

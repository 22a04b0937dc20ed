"""Jigsaw puzzles solved from frozen features."""

"""Experiments: several runs over several seeds, measured alike, in tables that nobody typed."""

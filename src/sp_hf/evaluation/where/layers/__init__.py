"""Probes of every layer of an encoder."""

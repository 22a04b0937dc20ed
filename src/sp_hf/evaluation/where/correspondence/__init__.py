"""Correspondence: the same place found again in another view."""

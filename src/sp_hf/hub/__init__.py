"""Pushing runs and results to the Hugging Face Hub."""

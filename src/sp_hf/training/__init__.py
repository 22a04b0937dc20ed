"""Training: the Trainer, its callbacks, and the functions that run it."""

"""Optimisation: learning rates for any batch, parameter groups, stochastic depth, clipping."""

"""How weights move: learning rates for any batch, parameter groups, stochastic depth, clipping."""

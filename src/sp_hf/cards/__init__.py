"""Model cards, made of what a run recorded and what was measured."""

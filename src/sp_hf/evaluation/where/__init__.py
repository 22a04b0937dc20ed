"""Tasks that measure what a model knows of where things are."""

"""Tasks that measure what a model knows of what is in an image."""

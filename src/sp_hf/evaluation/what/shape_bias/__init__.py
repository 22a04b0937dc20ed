"""Shape or texture: which of them a model goes by."""

"""Detection and instance segmentation: boxes and masks of objects, by light detectors on an encoder."""

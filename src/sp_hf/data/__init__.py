"""Images: where they come from, how they are decoded, and the canvases that views are cut from."""

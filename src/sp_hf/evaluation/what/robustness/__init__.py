"""Recognition of corrupted images, and of images from elsewhere."""

"""Crops of images with their exact boxes, made on the device; and what lies between two of them."""

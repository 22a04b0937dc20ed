"""PartScenes, the embedded dataset: procedural scenes with classes, parts and depth."""

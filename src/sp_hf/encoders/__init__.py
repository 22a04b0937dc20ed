"""Any vision model as class token, patches and grid: facts, presets, loading, export, SPViT."""

"""Fine-tuning of the stock classifier."""

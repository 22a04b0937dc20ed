"""What low-level cues alone give away of relative position and scale."""

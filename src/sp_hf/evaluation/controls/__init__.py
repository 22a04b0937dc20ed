"""Models that know nothing, measured beside those that might."""

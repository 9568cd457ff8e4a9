"""Numbers: metrics and areas."""

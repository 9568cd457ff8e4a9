"""Results of many slides, joined with what is known of the patients."""

"""Features of windows, kept while a slide is segmented and scored again without its encoder."""

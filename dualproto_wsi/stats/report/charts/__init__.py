"""Small charts as inline SVG: a picture for the eye, words and a table for everybody else."""

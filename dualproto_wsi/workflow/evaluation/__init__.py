"""Models and maps against the truth: labelled images, and annotations on whole slides."""

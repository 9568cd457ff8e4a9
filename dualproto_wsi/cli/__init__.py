"""Words for jobs: one file a verb."""

"""Models and prompts: trained, calibrated, scored, imported."""

"""Proofs: of a run, and of anyone's polygon file."""

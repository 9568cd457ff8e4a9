"""Proofs that features and label map say the same."""

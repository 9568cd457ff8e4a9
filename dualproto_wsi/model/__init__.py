"""Tensors in, tensors out: encoders, prototypes, head, bundles."""

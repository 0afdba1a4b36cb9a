"""Experiments that test theorems, in float64; a leaf: no other room but ``reproduce`` uses it."""

"""Graphs to outcomes; the only package that `export` may use."""

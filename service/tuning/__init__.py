"""Batch, threads and engines, measured at the start."""

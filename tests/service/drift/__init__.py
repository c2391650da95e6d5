"""Drift of products."""

"""Bytes to pixels, and what is refused before."""

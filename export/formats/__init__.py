"""Forms of a graph on disk."""

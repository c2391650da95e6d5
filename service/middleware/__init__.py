"""Around every request: id, key, permit, limits, refusals."""

"""Where a model is cut into graphs."""

"""A small CLIP of the drawn things."""

"""The encoder that needs no download."""

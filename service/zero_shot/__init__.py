"""Zero-shot detection: pictures and class names in, a score and a map for each name out."""

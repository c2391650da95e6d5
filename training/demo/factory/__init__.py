"""Products of the demo factory and their folders."""

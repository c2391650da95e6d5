"""Raw map to file and regions."""

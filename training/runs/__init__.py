"""What a run leaves on disk, how it goes on, foreign weight files."""

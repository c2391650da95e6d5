"""Things with names, for the zero-shot demo."""

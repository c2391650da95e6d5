"""One picture from bytes to answer; verdicts."""

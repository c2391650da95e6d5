"""The losses of the zero-shot paper."""

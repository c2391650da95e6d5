"""The command `anomoe`."""

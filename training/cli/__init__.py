"""The command `anomoe-train`."""

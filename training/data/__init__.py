"""Pictures, masks and lists of a data set."""

"""Export: from a checkpoint to a bundle that the service can load without torch."""

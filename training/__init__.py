"""Training: from normal pictures to a checkpoint."""

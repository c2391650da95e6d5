"""The paper's model, nothing else."""

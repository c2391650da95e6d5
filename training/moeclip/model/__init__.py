"""The zero-shot paper's model, nothing else."""

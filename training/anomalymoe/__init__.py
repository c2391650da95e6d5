"""AnomalyMoE: router, three groups of experts, and the losses that train them on normal pictures."""

"""Foreign weights of AnomalyMoE."""

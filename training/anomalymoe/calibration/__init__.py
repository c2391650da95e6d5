"""Categories of AnomalyMoE from normal pictures."""

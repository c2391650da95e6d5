"""AnomalyMoE looked into."""

"""AnomalyMoE measured."""

"""AnomalyMoE: step, warm start, products, calibration, checkpoint."""

"""What a trained AnomalyMoE has learnt: who is chosen, what each level sees, who repeats whom."""

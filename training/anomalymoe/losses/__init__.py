"""Eqs. 3, 4 and 9 of the AnomalyMoE paper."""

"""Tests of the AnomalyMoE model and its losses."""

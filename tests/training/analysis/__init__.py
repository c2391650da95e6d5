"""Tests of `training.analysis`."""

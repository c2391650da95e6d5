"""Bundles in service: loading, pipeline, health, reload."""

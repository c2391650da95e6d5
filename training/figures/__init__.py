"""Sheets and heat maps, drawn."""

"""Figures as rows and tables, those of the papers."""

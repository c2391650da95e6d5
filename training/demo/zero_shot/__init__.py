"""Captioned pictures of single things, whole and damaged, and the tiny dual encoder that learns from them."""

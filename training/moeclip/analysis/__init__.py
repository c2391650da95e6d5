"""MoECLIP looked into."""

"""Foreign weights of MoECLIP."""

"""The offline backbone: a small vision transformer trained on the user's own normal pictures."""

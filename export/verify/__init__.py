"""A bundle compared with the model it was made of."""

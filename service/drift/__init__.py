"""Whether the pictures of a product are what they were."""

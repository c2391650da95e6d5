"""What is asked and answered, as types."""

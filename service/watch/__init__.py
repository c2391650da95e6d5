"""A folder of pictures, judged and sorted as they come."""

"""Images, compose file, chart and what stands in front of the service."""

"""Who works on what, when: shares, queues, threads; it knows neither pictures nor models."""

"""The inference microservice: pictures in, anomaly maps and decisions out."""

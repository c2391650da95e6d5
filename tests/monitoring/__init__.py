"""What watches the service: rules, dashboards, and a real Prometheus."""

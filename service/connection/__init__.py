"""TCP and HTTP/1.1: parsing, slow clients, signals, drain; it alone knows uvicorn and httptools."""

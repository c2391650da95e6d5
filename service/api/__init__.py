"""One function a path, uploads, description; it only translates."""

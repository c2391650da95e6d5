"""One file a runtime; the only place with ONNX Runtime or torch."""

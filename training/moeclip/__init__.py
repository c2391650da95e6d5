"""MoECLIP: zero-shot anomaly maps from CLIP with patch-wise mixtures of LoRA experts."""

"""What a frozen encoder is; DINOv2; one that needs no download."""

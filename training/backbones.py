"""From a backbone's settings to an encoder module."""

from training.anomalymoe.config import ViTConfig
from training.anomalymoe.encoder import VisionTransformer
from training.offline.encoder import OfflineConfig, OfflineEncoder


def build_encoder(config: OfflineConfig | ViTConfig) -> OfflineEncoder | VisionTransformer:
    """An encoder of the given size with fresh weights."""
    return VisionTransformer(config) if isinstance(config, ViTConfig) else OfflineEncoder(config)

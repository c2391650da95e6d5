"""Ready-made settings: the paper's model, and one that a CPU trains."""

from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, MoEConfig, TextConfig, VisionConfig

# open_clip's name of the backbone: OpenAI trained it with QuickGELU, the released adapters with GELU.
FULL_SIZE = "ViT-L-14-336"


IMAGE_SIZE = 518


def full_size() -> MoECLIPConfig:
    """The paper's model: ViT-L/14 at 518 pixels, four experts of rank 8 after blocks 6, 12, 18 and 24."""
    return MoECLIPConfig()


def tiny(vocabulary: int = 512, context_length: int = 16) -> MoECLIPConfig:
    """64-pixel pictures on an 8 x 8 grid, width 64; about half a million parameters."""
    return MoECLIPConfig(
        clip=CLIPConfig(
            vision=VisionConfig(width=64, depth=4, heads=4, patch_size=8, image_size=(64, 64)),
            text=TextConfig(width=64, depth=2, heads=4, context_length=context_length, vocabulary=vocabulary),
            embedding=48,
        ),
        layers=(2, 3, 4),
        moe=MoEConfig(rank=4, alpha=8.0),
    )

"""Sizes of the zero-shot demo model, small enough to be trained from nothing on two cores."""

from export.contract.manifest import InputSpec
from training.demo.things.scene import SIZE
from training.moeclip.fit_config import MoECLIPFitConfig, MoECLIPTrainConfig
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, MoEConfig, TextConfig, VisionConfig

CONTEXT_LENGTH = 24
MERGES = 400
DEMO_INPUT = InputSpec(height=SIZE, width=SIZE)


def demo_model(vocabulary: int) -> MoECLIPConfig:
    """96-pixel pictures on a 12 x 12 grid, four blocks of width 128, experts after each: a million in all."""
    return MoECLIPConfig(
        clip=CLIPConfig(
            vision=VisionConfig(width=128, depth=4, heads=2, patch_size=8, image_size=(SIZE, SIZE)),
            text=TextConfig(width=64, depth=2, heads=2, context_length=CONTEXT_LENGTH, vocabulary=vocabulary),
            embedding=64,
        ),
        layers=(1, 2, 3, 4),
        moe=MoEConfig(rank=8),
        prompts="released",
    )


def demo_fit(model: MoECLIPConfig) -> MoECLIPFitConfig:
    """How the adapters of the demo model are trained: larger batches and steps than the paper's, but few.

    Sampling is plain and most pictures show damage: every whole picture drives all patches towards normal by
    its dice term, and where half of them are whole, small damages are lost before they are learnt.
    """
    train = MoECLIPTrainConfig(
        steps=2000,
        batch_size=8,
        learning_rate=2e-3,
        milestones=(1400, 1800),
        sampling="plain",
        half_weights=True,
    )
    return MoECLIPFitConfig(model=model, input=DEMO_INPUT, map_size=(SIZE, SIZE), train=train)

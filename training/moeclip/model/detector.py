"""MoECLIP: a frozen CLIP with mixtures of LoRA experts, projections into the text space, and maps.

Legend: B pictures, T tokens, N patches, D width, E embedding, S maps (layers times scales, layer-major),
P prompts, L tokens of a prompt, K experts, h w patch grid, H W pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.moeclip.model.adapters import DepthwiseAdapter, Projection
from training.moeclip.model.clip import CLIP
from training.moeclip.model.config import MoECLIPConfig
from training.moeclip.model.lora_moe import LoRAMoE, MoEOutput
from training.moeclip.model.paa import aggregate


class Seen(NamedTuple):
    """What the model makes of pictures.

    tokens (B, S, N, E): unit patch tokens of every layer and scale. summary (B, E): the image token, mean of
    unit vectors and itself shorter. embedding (B, E): CLIP's own unit image embedding, of a pass that the
    experts of earlier layers took part in. moe: what each MoE layer did, in order.
    """

    tokens: Tensor
    summary: Tensor
    embedding: Tensor
    moe: tuple[MoEOutput, ...]


class Adapted(NamedTuple):
    """layers: patch tokens (B, N, D) after each MoE layer. last (B, T, D): what the last block gave, before a
    MoE layer that may follow it: of all tokens of this pass, the nearest to CLIP's own. moe: as in Seen."""

    layers: tuple[Tensor, ...]
    last: Tensor
    moe: tuple[MoEOutput, ...]


class TextFeatures(NamedTuple):
    """features (P, E): unit prompts in the space of the maps; embedding (P, E): CLIP's own. Equal without
    a text adapter."""

    features: Tensor
    embedding: Tensor


class MoECLIP(nn.Module):
    """The model of the MoECLIP paper; CLIP and every lora_a are frozen, `adapters` are trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: MoECLIPConfig) -> None:
        super().__init__()
        vision, text, embedding = config.clip.vision, config.clip.text, config.clip.embedding
        self.config = config
        self.grid = vision.grid
        self.clip = CLIP(config.clip)
        self.clip.requires_grad_(False)
        self.moe = nn.ModuleList(LoRAMoE(vision.width, config.moe) for _ in config.layers if config.moe)
        self.projections = nn.ModuleList(
            Projection(vision.width, embedding, config.leaky_projection) for _ in config.layers
        )
        self.image_adapter = DepthwiseAdapter(vision.width, embedding) if config.image_adapter else None
        self.text_adapter = Projection(text.width, embedding, leaky=True) if config.text_adapter else None
        self.register_buffer("mean", torch.tensor(vision.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(vision.std).view(3, 1, 1), persistent=False)

    def adapters(self) -> Iterator[nn.Parameter]:
        """All that is trained."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pictures (B, H, W, 3) as CLIP takes them: float (B, 3, H, W), on its device."""
        return (pixels.permute(0, 3, 1, 2).to(self.mean) / 255 - self.mean) / self.std

    def forward(self, image: Tensor, by_expert: bool = False) -> Seen:
        """One pass over normalised pictures (B, 3, H, W).

        by_expert: also give the outputs of all experts, for the ETF loss.
        """
        adapted = self.adapt(image, by_expert)
        embedding_BE = self.clip.visual.pool(adapted.last)
        return Seen(
            self._tokens(adapted.layers), self._summary(adapted.layers[-1]), embedding_BE, adapted.moe
        )

    def adapt(self, image: Tensor, by_expert: bool = False) -> Adapted:
        """CLIP's blocks, and after some of them the experts, whose tokens go on to the next block."""
        x_BTD = last_BTD = self.clip.visual.embed(image)
        layers: list[Tensor] = []
        outputs: list[MoEOutput] = []
        for number, block in enumerate(self.clip.visual.transformer.blocks(), start=1):
            x_BTD = last_BTD = block(x_BTD)
            if number not in self.config.layers:
                continue
            if self.moe:
                outputs.append(self.moe[len(layers)](x_BTD, by_expert))
                x_BTD = outputs[-1].tokens
            layers.append(x_BTD[:, 1:])
        return Adapted(tuple(layers), last_BTD, tuple(outputs))

    def read(self, tokens_PL: Tensor) -> TextFeatures:
        """Prompts as token ids (P, L)."""
        final_PD = self.clip.read_text(tokens_PL)
        embedding_PE = F.normalize(final_PD @ self.clip.text_projection, dim=-1)
        if self.text_adapter is None:
            return TextFeatures(embedding_PE, embedding_PE)
        return TextFeatures(F.normalize(self.text_adapter(final_PD), dim=-1), embedding_PE)

    def _tokens(self, layers: tuple[Tensor, ...]) -> Tensor:
        """Patches averaged at every scale, normed, projected and of unit length, (B, S, N, E)."""
        projected = [
            F.normalize(projection(self.clip.visual.ln_post(aggregate(patches, self.grid, scale))), dim=-1)
            for patches, projection in zip(layers, self.projections, strict=True)
            for scale in self.config.scales
        ]
        return torch.stack(projected, 1)

    def _summary(self, patches_BND: Tensor) -> Tensor:
        """The image token of Eq. 13, from the patches of the last layer at scale 1.

        As in the released model they pass CLIP's ln_post first, which Eq. 13 leaves out.
        """
        normed_BND = self.clip.visual.ln_post(patches_BND)
        if self.image_adapter is None:
            return F.normalize(self.projections[-1](normed_BND), dim=-1).mean(1)
        return self.image_adapter(normed_BND)


def class_text(normal_PE: Tensor, abnormal_PE: Tensor) -> Tensor:
    """The two directions (2, E) of a class, normal first: of each set of prompts the mean, of unit length."""
    return F.normalize(torch.stack([normal_PE.mean(0), abnormal_PE.mean(0)]), dim=-1)

"""CLIP: a vision and a text transformer into one space, with open_clip's parameter names.

Legend: B pictures, P texts, L tokens of a text, T tokens (cls and patches), D width, E embedding,
n heads, d width of a head, h w patch grid, H W pixels.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.moeclip.model.config import Activation, CLIPConfig, TextConfig, VisionConfig


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): OpenAI's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        qkv = F.linear(x_BTD, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in qkv)
        mixed_BnTd = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(mixed_BnTd.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with the activation between."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.activation = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x_BTD)))


class Block(nn.Module):
    """x + attention(norm(x)), then + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, activation: Activation, causal: bool):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio), activation)

    def start(self, depth: int) -> None:
        """CLIP's initialisation: the deeper the tower, the smaller what each block adds."""
        width = self.ln_1.normalized_shape[0]
        nn.init.normal_(self.attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        for layer in (self.attn.out_proj, self.mlp.c_proj):
            nn.init.normal_(layer.weight, std=(2 * depth * width) ** -0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attn(self.ln_1(x_BTD))
        return x_BTD + self.mlp(self.ln_2(x_BTD))


class Transformer(nn.Module):
    """Blocks one after the other."""

    def __init__(self, config: VisionConfig | TextConfig, activation: Activation, causal: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, activation, causal)
            for _ in range(config.depth)
        )
        for block in self.blocks():
            block.start(config.depth)

    def blocks(self) -> Iterator[Block]:
        """The blocks in order."""
        for block in self.resblocks:
            assert isinstance(block, Block)
            yield block

    def forward(self, x_BTD: Tensor) -> Tensor:
        for block in self.resblocks:
            x_BTD = block(x_BTD)
        return x_BTD


class VisionTower(nn.Module):
    """Pictures to tokens; `positional_embedding` is that of the picture's own grid, cls first."""

    def __init__(self, config: VisionConfig, embedding: int, activation: Activation) -> None:
        super().__init__()
        width, std = config.width, config.width**-0.5
        self.grid = config.grid
        tokens = 1 + config.grid[0] * config.grid[1]
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(std * torch.randn(width))
        self.positional_embedding = nn.Parameter(std * torch.randn(tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(config, activation, causal=False)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(std * torch.randn(width, embedding))

    def embed(self, image: Tensor) -> Tensor:
        """A normalised picture (B, 3, H, W) as the tokens (B, T, D) that the first block takes."""
        patches_BND = self.conv1(image).flatten(2).transpose(1, 2)
        cls_B1D = self.class_embedding.expand(image.shape[0], 1, -1)
        return self.ln_pre(torch.cat([cls_B1D, patches_BND], dim=1) + self.positional_embedding)

    def pool(self, x_BTD: Tensor) -> Tensor:
        """CLIP's own image embedding (B, E), of unit length, from the tokens of the last block."""
        cls_BD = x_BTD[:, :1].flatten(1)  # a slice: the exported graph stays free of Gather
        return F.normalize(self.ln_post(cls_BD) @ self.proj, dim=-1)

    def forward(self, image: Tensor) -> Tensor:
        return self.pool(self.transformer(self.embed(image)))


class CLIP(nn.Module):
    """Both towers; the text tower's parameters are the model's own, as in open_clip."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        text, embedding = config.text, config.embedding
        self.visual = VisionTower(config.vision, embedding, config.activation)
        self.token_embedding = nn.Embedding(text.vocabulary, text.width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(text.context_length, text.width))
        self.transformer = Transformer(text, config.activation, causal=True)
        self.ln_final = nn.LayerNorm(text.width)
        self.text_projection = nn.Parameter(text.width**-0.5 * torch.randn(text.width, embedding))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_image(self, image: Tensor) -> Tensor:
        """Unit embeddings (B, E) of normalised pictures (B, 3, H, W)."""
        return self.visual(image)

    def encode_text(self, tokens_PL: Tensor) -> Tensor:
        """Unit embeddings (P, E) of token ids (P, L)."""
        return F.normalize(self.read_text(tokens_PL) @ self.text_projection, dim=-1)

    def read_text(self, tokens_PL: Tensor) -> Tensor:
        """The final token (P, D) of each text, before the projection; the end token has the highest id."""
        # Looked up by index: the exporter calls what an embedding layer gives `embedding`, as an output is.
        x_PLD = self.token_embedding.weight[tokens_PL] + self.positional_embedding
        x_PLD = self.ln_final(self.transformer(x_PLD))
        end_P = tokens_PL.argmax(dim=-1)
        return x_PLD.gather(1, end_P[:, None, None].expand(-1, 1, x_PLD.shape[-1])).squeeze(1)


def resample_positions(positions_TD: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings (1 + side^2, D) of a square grid on another one: bicubic, antialiased, cls kept.

    Raises ValueError when the stored grid is neither square nor the one asked for.
    """
    cls_1D, stored_ND = positions_TD[:1], positions_TD[1:]
    if len(stored_ND) == grid[0] * grid[1] and grid[0] != grid[1]:
        return positions_TD
    side = math.isqrt(len(stored_ND))
    if side * side != len(stored_ND):
        raise ValueError(f"positional_embedding: {len(stored_ND)} patches are no square grid")
    if grid == (side, side):
        return positions_TD
    grid_1Dhw = stored_ND.T.unflatten(1, (side, side)).unsqueeze(0)
    resampled = F.interpolate(grid_1Dhw, grid, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([cls_1D, resampled.squeeze(0).flatten(1).T])

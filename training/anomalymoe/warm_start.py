"""What is decided before training when pictures are few: who sees what, and the experts in closed form.

Legend: n pictures, D width, E experts.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from sklearn.cluster import KMeans
from torch import Tensor, nn

from training.anomalymoe.model.component import Centres
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.model.gaussian import GaussianExpert
from training.anomalymoe.model.part import PartExpert
from training.anomalymoe.model.subspace import SubspaceExpert
from training.backbones.base import EncoderOutput
from training.backbones.offline.defects import damage
from training.data.store import Pictures, batches

BATCH = 32
UNSEEN = 4  # every fourth picture is kept from the components and gives the noise
STRAY = 0.1  # share of the pictures of a product
LOGIT_SIZE = 2.0  # root mean square of the logits at the start


@torch.no_grad()
def start_router(detector: AnomalyMoE, cls_nD: Tensor, products_n: Tensor, seed: int = 0) -> None:
    """Let a linear `per_level` router be the nearest of K-means centres, so that like goes with like.

    products_n: number of each picture's product. What varies within a product counts for little, so that
    pictures of one product stay together. Every level gets the same logits where it has as many experts,
    hence the same weight. The router is then frozen: balancing would mix products again. Others are left
    as they are.
    """
    router = detector.router
    if not router.config.is_clustered:
        return
    assert isinstance(router.gate, nn.Linear)
    router.gate.requires_grad_(False)
    spread_D = _spread_within(cls_nD, products_n)
    columns = [_nearest_centre(cls_nD / spread_D, count, seed) for count in router.counts if count]
    router.gate.weight.copy_(torch.cat([weight for weight, _ in columns]) / spread_D)
    router.gate.bias.copy_(torch.cat([bias for _, bias in columns]))


@torch.no_grad()
def fit_closed_forms(
    detector: AnomalyMoE,
    pixels: Pictures,
    products_n: Tensor,
    encoded: EncoderOutput,
    centres: Callable[[npt.NDArray[np.int64]], Centres],
    seed: int = 0,
    *,
    progress: Progress | None = None,
) -> None:
    """Fit the experts that are decided in closed form, each on the products that the router sends it.

    What an expert learns follows from its kind and its pictures: those that share both are fitted once.
    pixels: uint8 (n, H, W, 3), of which `encoded` is what the encoder says. centres: of some of the pictures.
    """
    chosen_nE = detector.router(encoded.cls).chosen.bool()
    features = encoded.features
    fitted: dict[tuple[type[nn.Module], bytes], nn.Module] = {}
    columns: Iterable[int] = range(len(detector.experts))
    if progress:
        columns = progress.track(columns, len(detector.experts), description="closed forms")
    for column in columns:
        expert = detector.experts[column]
        rows = _rows_of_products(chosen_nE[:, column], products_n)
        twin = fitted.setdefault((type(expert), rows.numpy().tobytes()), expert)
        if twin is not expert and isinstance(expert, GaussianExpert | PartExpert | SubspaceExpert):
            expert.load_state_dict(twin.state_dict())
        elif isinstance(expert, GaussianExpert):
            expert.fit(features[rows], detector.encoder.views)
        elif isinstance(expert, PartExpert):
            masks = detector.component_masks(features[rows], *centres(rows.numpy()))
            expert.fit(features[rows], masks, detector.encoder.views)
        elif isinstance(expert, SubspaceExpert):
            unseen = rows[::UNSEEN]
            normal = rows[~torch.isin(rows, unseen)] if len(rows) > 1 else rows
            synthetic = damage(np.random.default_rng(seed), pixels[unseen.numpy()])
            damaged = encode_pictures(detector, synthetic).features
            expert.fit(features[normal], features[unseen], damaged, detector.encoder.views)


def encode_pictures(
    detector: AnomalyMoE, pixels: Pictures, progress: Progress | None = None
) -> EncoderOutput:
    """What the encoder says about uint8 pictures (n, H, W, 3), a batch at a time, kept in main memory."""
    kept: list[Tensor] = []
    done, parts = 0, batches(pixels, BATCH)
    if progress:
        parts = progress.track(parts, -(-len(pixels) // BATCH), description="encode")
    for batch in parts:
        encoded = detector.encode(detector.normalise(torch.from_numpy(batch)))
        # Filled in place: joined at the end they would be there twice.
        kept = kept or [part.new_empty(len(pixels), *part.shape[1:], device="cpu") for part in encoded]
        for whole, part in zip(kept, encoded, strict=True):
            whole[done : done + len(batch)] = part
        done += len(batch)
    return EncoderOutput(*kept)


def _rows_of_products(chosen_n: Tensor, products_n: Tensor) -> Tensor:
    """Numbers of all pictures of the products that choose an expert more than astray; of all if none does."""
    own = [
        product for product in products_n.unique() if chosen_n[products_n == product].float().mean() > STRAY
    ]
    members = (
        torch.isin(products_n, torch.stack(own)) if own else torch.ones_like(products_n, dtype=torch.bool)
    )
    return torch.nonzero(members).squeeze(1)


def _spread_within(cls_nD: Tensor, products_n: Tensor) -> Tensor:
    """Standard deviation of each channel within the products, (D,)."""
    centred = torch.cat(
        [
            cls_nD[products_n == product] - cls_nD[products_n == product].mean(0)
            for product in products_n.unique()
        ]
    )
    return centred.square().mean(0).sqrt().clamp(min=1e-3)


def _nearest_centre(cls_nD: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weight (count, D) and bias (count,) whose largest logit is that of the nearest centre.

    |x - c|^2 = |x|^2 - 2 (c.x - |c|^2 / 2): the first term is the same for all.
    """
    means = KMeans(min(count, len(cls_nD)), random_state=seed, n_init="auto").fit(cls_nD.numpy())
    weight = torch.from_numpy(means.cluster_centers_).to(cls_nD.dtype)
    weight = torch.cat([weight, weight[-1:].expand(count - len(weight), -1)])  # fewer pictures than experts
    bias = -weight.square().sum(1) / 2
    # Logits are compared within a level only; what all of them share is taken away to keep them small.
    weight, bias = weight - weight.mean(0), bias - bias.mean()
    logits = cls_nD @ weight.T + bias
    scale = LOGIT_SIZE / logits.square().mean().sqrt().clamp(min=1e-6)
    return scale * weight, scale * bias

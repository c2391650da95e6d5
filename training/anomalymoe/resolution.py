"""At how many pixels a picture is looked at: whether shrinking hides defects is tried with synthetic ones."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress

from export.contract.preprocess import fit
from training.anomalymoe.checkpoint import build_detector
from training.anomalymoe.fit_config import FitConfig, preset, with_levels
from training.anomalymoe.model.gaussian import GaussianExpert
from training.anomalymoe.warm_start import encode_pictures
from training.anomalymoe.weights.stages import is_of_an_encoder, load_stages
from training.backbones.base import top_mean
from training.backbones.conv import ConvEncoder, ConvEncoderConfig
from training.backbones.offline.defects import damage
from training.data.pictures import load_picture, upright_size
from training.data.sets.samples import Sample
from training.data.store import batches
from training.device import on_training_device, training_device
from training.distributed import gather
from training.metrics import auroc

SHRUNK = 2  # times; shrinking by less hides little
SIZED = 20  # pictures whose size is looked at
TRIED, DAMAGED = 40, 16  # pictures, and those of them that are not learnt from
FINEST = 640  # pixels a side
STEP = 128  # pixels, of which a finer side is a multiple
STAGES, PATCH = (1, 2), 8  # of a finer encoder; pixels of a patch
GAIN = 0.1  # of AUROC, for which a picture may take six times as long
BATCH = 8

logger = logging.getLogger(__name__)


def choose_resolution(
    normal: Sequence[Sample], config: FitConfig, weights: Path | None, progress: Progress
) -> FitConfig:
    """The same settings, or finer ones where only these show synthetic defects; told either way.

    Tried on pictures SHRUNK times as large as what the model sees, if the encoder is the preset's
    convolutional one and its weights are not those of certain stages. Raises WeightsError when they do not
    fit.
    """
    if config.resolution == "fixed":
        return config
    some = normal[:: -(-len(normal) // SIZED)]
    side = int(median(min(upright_size(one.path)) for one in some))
    seen = min(config.input.height, config.input.width)
    if side < SHRUNK * seen:
        return config
    encoder, patch = config.encoder, config.detector.patch
    is_open = isinstance(encoder, ConvEncoderConfig) and encoder == preset(config.backbone).encoder
    if is_open and weights is not None:
        is_open = not is_of_an_encoder(weights)
    if not (is_open and patch.count and patch.gaussians) or len(normal) < TRIED:
        logger.warning(
            "pictures of %d pixels a side are seen as %d, where fine defects vanish: --config sets "
            "encoder.image_size, encoder.grid and input, as docs/fine.json does",
            side,
            seen,
        )
        return config
    fine = _finer(config, min(FINEST, side // STEP * STEP))
    coarse_auroc, fine_auroc = progress.track(
        _tried(normal, (config, fine), weights), total=2, description="resolution"
    )
    gain = gather(torch.tensor([fine_auroc - coarse_auroc], device=training_device()))
    is_finer = float(gain[0]) >= GAIN  # as the first of several processes finds
    logger.warning(
        "pictures of %d pixels a side: synthetic defects have an AUROC of %.2f at %d pixels, of %.2f at %d, "
        "which %s; resolution `fixed` in --config takes what encoder.image_size and input say",
        side,
        coarse_auroc,
        seen,
        fine_auroc,
        fine.input.height,
        "is taken, for six times the time" if is_finer else "is not worth six times the time",
    )
    return fine if is_finer else config


def _finer(config: FitConfig, side: int) -> FitConfig:
    settings = config.model_dump()
    settings["encoder"] |= {
        "image_size": (side, side),
        "grid": (side // PATCH, side // PATCH),
        "stages": STAGES,
    }
    settings["input"] |= {"height": side, "width": side}
    return FitConfig.model_validate(settings)


@torch.no_grad()
def _tried(normal: Sequence[Sample], configs: Sequence[FitConfig], weights: Path | None) -> Iterator[float]:
    """AUROC of synthetic defects by patches alone under each of the settings, the last the finest."""
    rng = np.random.default_rng(0)
    finest, jpeg = configs[-1].input, configs[-1].data.jpeg
    rows = rng.permutation(len(normal))[:TRIED]
    pictures = np.stack([load_picture(normal[row].path, finest, jpeg) for row in rows])
    parts = pictures[DAMAGED:], pictures[:DAMAGED], damage(rng, pictures[:DAMAGED])
    for config in configs:
        detector = build_detector(with_levels(config, ["patch"]))
        encoder, expert = detector.encoder, detector.experts[0]
        assert isinstance(encoder, ConvEncoder)
        assert isinstance(expert, GaussianExpert)
        load_stages(encoder, weights)
        learnt, unseen, damaged = (
            np.stack([fit(Image.fromarray(one), config.input) for one in part]) for part in parts
        )
        with on_training_device(detector):
            encoder.standardise(detector.normalise(torch.from_numpy(part)) for part in batches(learnt, BATCH))
            encoded = [encode_pictures(detector, part).features for part in (learnt, unseen, damaged)]
        expert.fit(encoded[0], encoder.views)
        scores = [top_mean(expert(features).error.flatten(1)) for features in encoded[1:]]
        yield auroc(np.repeat([False, True], DAMAGED), torch.cat(scores).numpy())

"""A whole run small enough for tests: 48-pixel pictures of two products, a 6 x 6 grid, five experts."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from rich.progress import Progress

from export.contract.category import Category
from export.contract.manifest import InputSpec
from tests.training.anomalymoe.tiny import model_config, randomised, vit_config
from training.anomalymoe.calibration.calibrate import calibrate
from training.anomalymoe.calibration.knowledge import learn_product
from training.anomalymoe.checkpoint import Checkpoint, build_detector
from training.anomalymoe.fit_config import CalibrationConfig, FitConfig, TrainConfig
from training.anomalymoe.model.config import (
    AnomalyMoEConfig,
    ComponentConfig,
    GlobalConfig,
    PatchConfig,
    RouterConfig,
)
from training.anomalymoe.model.detector import AnomalyMoE
from training.anomalymoe.model.head import Head
from training.anomalymoe.presets import compact_autoencoder
from training.backbones.offline.encoder import APPEARANCE_CHANNELS, OfflineConfig, OfflineEncoder
from training.backbones.offline.pretext import PretextConfig, normalise
from training.runs.resume import Resume

Pictures = npt.NDArray[np.uint8]
Product = Literal["disc", "square"]

SIZE = 48
GRID = (6, 6)
PRODUCTS: tuple[Product, ...] = ("disc", "square")
COLOURS = {"disc": (190, 80, 60), "square": (60, 90, 190)}
DEFECTS = ("logical_missing", "structural_line", "structural_spot")

ENCODER = OfflineConfig(
    image_size=(SIZE, SIZE),
    width=16,
    stem_widths=(4, 8, 16),
    mixers=("convolution", "attention"),
    heads=2,
    fused_blocks=(0, 1),
)
WIDTH = ENCODER.width + APPEARANCE_CHANNELS


def tiny_config(**changes: Any) -> FitConfig:
    """A run of a few steps; `changes` replace whole sections."""
    settings = {
        "backbone": "offline",
        "encoder": ENCODER,
        "input": InputSpec(height=SIZE, width=SIZE),
        "map_size": (SIZE, SIZE),
        "scoring": "calibrated",
        "pretext": PretextConfig(steps=8, batch_size=4, checks=4),
        "detector": AnomalyMoEConfig(
            router=RouterConfig(hidden=None, top_k=3, selection="per_level"),
            patch=PatchConfig(count=2, depth=1, heads=2),
            component=ComponentConfig(count=2, hidden=12, code=6),
            global_=GlobalConfig(count=1, autoencoder=compact_autoencoder(SIZE, code=8)),
        ),
        "train": TrainConfig(steps=12, batch_size=4, warmup_steps=2, learning_rate=2e-3, gradient_clip=1.0),
        "calibration": CalibrationConfig(holdout=0.3, components=3),
    }
    return FitConfig.model_validate(settings | changes)


def vit_run_config() -> FitConfig:
    """A run of the tiny model with a DINOv2-style encoder."""
    return FitConfig(
        backbone="dinov2-reg-base",
        encoder=vit_config(),
        input=InputSpec(height=32, width=32),
        map_size=(32, 32),
        detector=model_config(),
    )


def tiny_checkpoint(seed: int = 0) -> Checkpoint:
    """Untrained but really calibrated, with a router that sends different pictures to different experts."""
    torch.manual_seed(seed)
    config = tiny_config()
    detector = build_detector(config).eval()
    for expert, level in zip(detector.experts, detector.levels, strict=True):
        if level == "component":  # so narrow, it starts with outputs too small for a cosine
            randomised(expert)
    pictures = [normalise(normal_pictures(name, 4)) for name in PRODUCTS]
    assert isinstance(detector.encoder, OfflineEncoder)
    detector.encoder.standardise(pictures)
    assert isinstance(detector.router.gate, torch.nn.Linear)
    mean_cls = detector.encode(torch.cat(pictures)).cls.mean(0)
    with torch.no_grad():
        detector.router.gate.weight.normal_(std=0.02)
        detector.router.gate.bias.copy_(-detector.router.gate.weight @ mean_cls)
    categories = {name: tiny_category(detector, name) for name in PRODUCTS}
    return Checkpoint(config, detector, categories)


def tiny_category(detector: AnomalyMoE, name: Product, pictures: int = 6) -> Category:
    """A product learnt and calibrated on as many different pictures each."""
    known = learn_product(detector, normal_pictures(name, pictures), components=3)
    return calibrate(
        detector, Head((SIZE, SIZE), GRID), name, known, normal_pictures(name, pictures, first_seed=100)
    )


def normal_pictures(product: Product, count: int, first_seed: int = 0) -> Pictures:
    """Pictures (n, 48, 48, 3) without defects."""
    return np.stack([draw(product, seed)[0] for seed in range(first_seed, first_seed + count)])


def draw(product: Product, seed: int, defect: str | None = None) -> tuple[Pictures, Pictures]:
    """A coloured part on grey ground (48, 48, 3), and the mask (48, 48) of its defect, 0 or 255."""
    good = _lit(product, seed, None)
    picture = good if defect is None else _lit(product, seed, defect)
    return picture, np.where((picture != good).any(-1), np.uint8(255), np.uint8(0))


def write_data(root: Path, train: int = 6, test: int = 2) -> Path:
    """All products in the MVTec folder form: `train` and `test` good pictures, `test` of each defect."""
    for product in PRODUCTS:
        for seed in range(train):
            _save(draw(product, seed)[0], root / product / "train" / "good" / f"{seed}.png")
        for seed in range(test):
            _save(draw(product, 50 + seed)[0], root / product / "test" / "good" / f"{seed}.png")
            for defect in DEFECTS:
                picture, mask = draw(product, 70 + seed, defect)
                _save(picture, root / product / "test" / defect / f"{seed}.png")
                _save(mask, root / product / "ground_truth" / defect / f"{seed}_mask.png")
    return root


def quiet_progress() -> Progress:
    """Progress that shows nothing."""
    return Progress(disable=True)


def no_resume() -> Resume:
    """A run that starts from nothing and keeps nothing on the way."""
    return Resume(Path("nowhere"), key="", every=2**31)


def _lit(product: Product, seed: int, defect: str | None) -> Pictures:
    rng = np.random.default_rng((seed, PRODUCTS.index(product)))
    top, left = (int(side) for side in rng.integers(10, 15, 2))
    image = Image.new("RGB", (SIZE, SIZE), (120, 120, 120))
    canvas = ImageDraw.Draw(image)
    shape = canvas.ellipse if product == "disc" else canvas.rectangle
    if defect != "logical_missing":
        shape((left, top, left + 22, top + 22), fill=COLOURS[product])
    if defect == "structural_line":
        canvas.line((4, top + 8, SIZE - 4, top + 12), fill=(10, 10, 10), width=2)
    if defect == "structural_spot":
        canvas.rectangle((left + 6, top + 6, left + 13, top + 13), fill=(250, 250, 250))
    noisy = np.asarray(image, np.float32) + rng.normal(0, 3, (SIZE, SIZE, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _save(pixels: Pictures, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)

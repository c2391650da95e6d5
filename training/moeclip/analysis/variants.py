"""The variants of MoECLIP that the tables and figures of its paper compare, as changes of settings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.moeclip.backbone import settings_of, with_image_size
from training.moeclip.fit_config import MoECLIPFitConfig
from training.moeclip.model.config import LEAST_GRID
from training.moeclip.model.presets import FULL_SIZE, IMAGE_SIZE

TABLES = ("2", "5", "7", "8", "9", "10", "figure-6", "figure-7", "figure-8")


class Variant(NamedTuple):
    """One row; name: as in the paper. is_trained: false for CLIP as it is. clip: another to start from."""

    name: str
    config: MoECLIPFitConfig
    is_trained: bool = True
    clip: str | None = None


def variants(table: str, config: MoECLIPFitConfig, clips: Sequence[str] = ()) -> list[Variant]:
    """All rows of one of TABLES, in the paper's order. Raises ValueError for a model without experts.

    clips: what Table 5 starts from, see `read_backbone`; each has the sizes of the paper. Layers are those of
    the paper, in the same places of a shallower model; ranks those that fit. Left out of Table 10 are
    full-rank experts and the two other constraints, which the method does not use.
    """
    if config.model.moe is None:
        raise ValueError("model.moe: experts are needed to take something from them, got none")
    most = config.model.clip.vision.width // config.model.moe.experts
    layers, depth = config.model.layers, config.model.clip.vision.depth
    rows: dict[str, Callable[[], list[Variant]]] = {
        "2": lambda: [
            _plain_clip(config),
            _changed("w/o FOFS & ETF Loss", config, moe={"separated": False}, train={"etf_weight": 0.0}),
            _changed("w/o FOFS", config, moe={"separated": False}),
            _changed("w/o ETF Loss", config, train={"etf_weight": 0.0}),
            _changed("w/o Depth-wise Adapter", config, model={"image_adapter": False}),
            _changed("w/o PAA", config, model={"scales": (1,)}),
            Variant("MoECLIP", config),
        ],
        "5": lambda: [_with_clip(config, clip, side) for clip in clips for side in _sides(clip)],
        "7": lambda: [
            *(_placed(config, _scaled(one, depth)) for one in _PLACES),
            _placed(config, layers),
        ],
        "8": lambda: [*(_placed(config, (layer,)) for layer in layers), _placed(config, layers)],
        "9": lambda: [
            _changed(_listed(scales), config, model={"scales": scales})
            for scales in ((1,), (3,), (5,), (1, 3), (1, 5), (3, 5), (1, 3, 5))
        ],
        "10": lambda: [
            _changed("MLP Router", config, moe={"router_hidden": config.model.clip.vision.width // 4}),
            Variant("MoECLIP", config),
        ],
        "figure-6": lambda: [
            _changed(f"{count} experts", config, moe={"experts": count, "top_k": min(2, count)})
            for count in range(1, 9)
        ],
        "figure-7": lambda: [
            *(_changed(f"lambda_MoE {mix:g}", config, moe={"mix": mix}) for mix in (0.1, 0.2, 0.4, 0.6, 0.8)),
            *(_changed(f"lambda_etf {w:g}", config, train={"etf_weight": w}) for w in _WEIGHTS),
            *(_changed(f"lambda_bal {w:g}", config, train={"balance_weight": w}) for w in _WEIGHTS),
            *(_changed(f"rank {rank}", config, moe={"rank": rank}) for rank in _RANKS if rank <= most),
            *(_changed(f"top {k}", config, moe={"top_k": k}) for k in (1, 2, 3, 4)),
        ],
        "figure-8": lambda: [
            _changed("single expert", config, moe={"experts": 1, "top_k": 1}),
            Variant("MoECLIP", config),
        ],
    }
    return rows[table]()


_PLACES = ((1, 2, 3, 4), (20, 21, 22, 23, 24), (3, 6, 9, 12, 15, 18, 21, 24))
_PAPER_DEPTH = 24
_RANKS = (4, 8, 16, 32)
_WEIGHTS = (0.0, 0.001, 0.01, 0.1, 1.0)
_SIDES = {"ViT-B-32": (448,), "ViT-B-16": (448,), "ViT-L-14": (518,), "ViT-L-14-336": (448, 518, 602)}


def _sides(clip: str) -> list[int]:
    """Sides of the pictures in Table 5 for a CLIP; in proportion, to whole patches, for one not in it."""
    if (name := clip.partition(":")[0]) in _SIDES and not Path(clip).exists():
        return [*_SIDES[name]]
    vision = settings_of(clip).clip.vision
    patches = (max(LEAST_GRID, round(vision.grid[0] * side / IMAGE_SIZE)) for side in _SIDES[FULL_SIZE])
    return [vision.patch_size * one for one in dict.fromkeys(patches)]


def _with_clip(config: MoECLIPFitConfig, clip: str, side: int) -> Variant:
    own = with_image_size(settings_of(clip), (side, side))
    model = config.model.model_dump() | {"clip": own.clip.model_dump(), "layers": own.layers}
    settings = {"model": model, "train": config.train, "map_size": config.map_size}
    name = clip.partition(":")[0] if not Path(clip).exists() else Path(clip).name
    return Variant(f"{name} {side}", MoECLIPFitConfig.model_validate(settings), clip=clip)


def _plain_clip(config: MoECLIPFitConfig) -> Variant:
    changed = _changed("Vanilla CLIP", config, model={"moe": None, "image_adapter": False, "scales": (1,)})
    return changed._replace(is_trained=False)


def _changed(
    name: str,
    config: MoECLIPFitConfig,
    model: dict[str, Any] | None = None,
    moe: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
) -> Variant:
    settings = config.model_dump()
    settings["model"] |= model or {}
    settings["train"] |= train or {}
    if moe:
        settings["model"]["moe"] |= moe
    return Variant(name, MoECLIPFitConfig.model_validate(settings))


def _placed(config: MoECLIPFitConfig, layers: tuple[int, ...]) -> Variant:
    return _changed(_listed(layers), config, model={"layers": layers})


def _scaled(layers: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """The same places in a model of another depth."""
    return tuple(sorted({max(1, round(layer * depth / _PAPER_DEPTH)) for layer in layers}))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))

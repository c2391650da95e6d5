import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests import oracle, oracle_moeclip
from tests.oracle_moeclip import MoECLIPCase
from training.moeclip.model.config import CLIPConfig, MoECLIPConfig, MoEConfig, TextConfig, VisionConfig
from training.moeclip.model.detector import MoECLIP
from training.moeclip.weights.released import released_layout
from training.runs.foreign import WeightsError

CASES = sorted(case.stem for case in oracle.FOLDER.glob("moeclip_*.json") if oracle.find_case(str(case)))


@pytest.mark.skipif(not CASES, reason="no reference figures; set ANOMOE_ORACLE to their folder")
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_figures(case: str) -> None:
    path = oracle.find_case(case)
    assert path is not None
    errors = oracle.check("moeclip", path)
    assert len(errors) == 14
    assert {name: error for name, error in errors.items() if not error <= oracle.TOLERANCE} == {}


def made_case(stored_grid: int = 5, **changes: Any) -> MoECLIPCase:
    """A case of other settings; the parameters have the names that the released program gives them."""
    settings: dict[str, Any] = {
        "seed": 1,
        "batch": 2,
        "width": 64,
        "layers": 3,
        "E": 24,
        "tw": 32,
        "tl": 1,
        "img": 40,
    }
    settings |= {
        "levels": [1, 3],
        "K": 3,
        "topk": 1,
        "r": 5,
        "alpha": 7.5,
        "relu": False,
        "quick_gelu": False,
    }
    case = settings | changes
    vision = VisionConfig(
        width=case["width"],
        depth=case["layers"],
        heads=2,
        patch_size=8,
        image_size=(stored_grid * 8, stored_grid * 8),
    )
    text = TextConfig(width=case["tw"], depth=case["tl"], heads=1, context_length=9, vocabulary=40)
    model = MoECLIP(
        MoECLIPConfig(
            clip=CLIPConfig(vision=vision, text=text, embedding=case["E"]),
            layers=tuple(case["levels"]),
            moe=MoEConfig(experts=case["K"], top_k=case["topk"], rank=case["r"], alpha=case["alpha"]),
            leaky_projection=case["relu"],
            text_adapter=True,
        )
    )
    clip = model.clip.state_dict()
    parameters = {
        **{f"clipmodel.{name}": tuple(one.shape) for name, one in clip.items()},
        **{f"image_encoder.{name}": tuple(one.shape) for name, one in model.clip.visual.state_dict().items()},
        **{name: tuple(one.shape) for name, one in released_layout(model).items()},
    }
    return MoECLIPCase.model_validate({**case, "parameters": parameters})


def figures() -> dict[str, NDArray[Any]]:
    tokens = np.zeros((5, 9), np.int32)
    tokens[:, :4] = [38, 5, 6, 39]
    tokens[:, 2] += np.arange(5)
    return {"text_tokens": tokens}


def arrays(case: MoECLIPCase) -> dict[str, torch.Tensor]:
    return oracle_moeclip.arrays(case.model_dump_json(), figures())


def test_a_case_of_other_settings_has_arrays_of_its_size() -> None:
    found = {name: tuple(one.shape) for name, one in arrays(made_case()).items()}
    assert found == {
        "seg_tokens": (2, 6, 25, 24),
        "det_token": (2, 24),
        "text_features": (5, 24),
        "class_text": (24, 2),
        "patch_logits": (2, 6, 25, 2),
        "score_head": (2,),
        "map_train": (2, 6, 2, 8, 8),
        "seg_loss": (6,),
        "map_industrial": (2, 40, 40),
        "map_medical": (2, 40, 40),
        "moe_probe": (2, 2, 7, 64),
        "router_probs": (2, 14, 3),
        "etf_loss": (2,),
        "balance_cv2": (2,),
    }


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"topk": 2}, "moe_probe"),
        ({"alpha": 15.0}, "moe_probe"),
        ({"relu": True}, "seg_tokens"),
        ({"quick_gelu": True}, "text_features"),
        ({"levels": [2, 3]}, "seg_tokens"),
        ({"seed": 2}, "router_probs"),
    ],
)
def test_every_setting_is_heard(changes: dict[str, Any], moved: str) -> None:
    plain, other = arrays(made_case())[moved], arrays(made_case(**changes))[moved]
    assert plain.shape == other.shape
    assert not torch.allclose(plain, other, atol=1e-3)


def test_positions_of_another_grid_are_resampled() -> None:
    assert arrays(made_case(stored_grid=6))["seg_tokens"].shape == (2, 6, 25, 24)


def test_a_parameter_too_many_is_named() -> None:
    case = made_case()
    parameters = case.parameters | {"image_adapter.moe_adapters.2.gate.weight": (3, 64)}
    with pytest.raises(WeightsError, match=r"1 left over: image_adapter\.moe_adapters\.2\.gate\.weight$"):
        arrays(case.model_copy(update={"parameters": parameters}))


def test_the_command_reads_text_tokens_from_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = made_case()
    (tmp_path / "case.json").write_text(case.model_dump_json())
    found = {name: one.numpy() for name, one in arrays(case).items()}
    np.savez(tmp_path / "case.npz", allow_pickle=False, **figures(), **found)
    assert oracle.main(["moeclip", str(tmp_path / "case")]) == 0
    np.savez(
        tmp_path / "case.npz",
        allow_pickle=False,
        **figures(),
        **found | {"seg_loss": found["seg_loss"] * 1.001},
    )
    assert oracle.main(["moeclip", str(tmp_path / "case")]) == 1
    assert json.loads((tmp_path / "case.json").read_text())["K"] == 3
    assert capsys.readouterr().out.count("TOO LARGE") == 1

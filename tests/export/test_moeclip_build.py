"""MoECLIP bundles: what they hold, that they compute what the run does, in every format."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.assemble import Request, assemble, compare_run
from export.contract.bundle import Bundle
from export.contract.category import NormalScores
from export.contract.manifest import TOKENIZER
from export.contract.provenance import Format, Precision
from tests.training.moeclip.tiny import MODEL, tiny_config, tiny_tokenizer
from tests.training.tiny_run import quiet_progress
from training.moeclip.checkpoint import save_run
from training.moeclip.detector import MoECLIP

SCORES = NormalScores("disc", np.array([0.1, 0.2], np.float32), np.array([0.2, 0.4], np.float32))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("moeclip") / "run"
    save_run(folder, tiny_config(), MoECLIP(MODEL).eval(), tiny_tokenizer(), [SCORES])
    return folder


def build(run: Path, output: Path, form: Format, precision: Precision = "fp32") -> Bundle:
    request = Request("words", "1", form, precision, None, False, None)
    return assemble(run, output, request, quiet_progress())[0]


@pytest.mark.parametrize(
    ("form", "precision"), [("torchscript", "fp32"), ("torchscript", "fp16"), ("onnx", "fp32")]
)
def test_a_bundle_computes_what_the_run_does(
    run: Path, tmp_path: Path, form: Format, precision: Precision
) -> None:
    bundle = build(run, tmp_path / "bundle", form, precision)
    result = compare_run(bundle, run, None, quiet_progress())
    assert result.complaints() == []
    assert set(result.largest()) == {"vision", "text", "head", "map", "score"}
    manifest = bundle.manifest
    assert (manifest.kind, manifest.format, manifest.precision) == ("moeclip", form, precision)
    assert manifest.zero_shot is not None
    assert bundle.file_bytes(TOKENIZER).startswith(b"{")
    assert set(bundle.class_scores) == {"disc"}


def test_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    bundle = build(run, tmp_path / "bundle", "torchscript")
    torch.manual_seed(1)
    save_run(tmp_path / "other", tiny_config(), MoECLIP(MODEL).eval(), tiny_tokenizer())
    [complaint] = compare_run(bundle, tmp_path / "other", None, quiet_progress()).complaints()
    assert complaint == "differs by more than 0.0001 in vision, text, map, score"


def test_class_names_cannot_be_chosen(run: Path, tmp_path: Path) -> None:
    request = Request("words", "1", "torchscript", "fp32", ("disc",), False, None)
    with pytest.raises(ValueError, match="categories: a MoECLIP bundle carries all class names"):
        assemble(run, tmp_path / "bundle", request, quiet_progress())

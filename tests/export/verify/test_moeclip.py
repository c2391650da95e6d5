"""MoECLIP runs as bundles: what is in the graphs, that they equal the model, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from typer.testing import CliRunner, Result

from export.bundles.moeclip import build_zero_shot_bundle
from export.cli import app
from export.contract.bundle import Bundle
from export.contract.category import ClassScores
from export.contract.manifest import TOKENIZER
from export.contract.manifest_file import MANIFEST
from export.formats.forms import Form
from export.graphs.moeclip import zero_shot_examples, zero_shot_parts
from export.verify.moeclip import Served, compare_zero_shot, read_class_samples
from service.inference.backends.loading import open_graph
from tests.tiny_zero_shot_bundle import SIZE, make_tiny_zero_shot_bundle
from tests.training.moeclip.tiny import MODEL, tiny_config, tiny_detector, tiny_tokenizer
from tests.training.tiny_run import quiet_progress
from training.metrics import auroc
from training.moeclip.checkpoint import load_run, save_run
from training.moeclip.evaluation import evaluate_run
from training.moeclip.model.detector import MoECLIP, class_text
from training.moeclip.model.maps import image_logits, image_score, margins, patch_logits, served_map
from training.runs.files import WEIGHTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows how normal discs score."""
    path = tmp_path_factory.mktemp("zero-shot") / "run"
    ramp = np.linspace(0.1, 0.4, 4, dtype=np.float32)
    scores = [ClassScores(name="disc", scores=ramp, peaks=ramp)]
    save_run(path, tiny_config(), tiny_detector(), tiny_tokenizer(), scores)
    return path


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    result = run("build", folder, folder.parent / "bundle", "--name", "zero", "--version", "7")
    assert result.exit_code == 0, result.output
    return folder.parent / "bundle"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def parts(model: MoECLIP) -> dict[str, torch.nn.Module]:
    return {part.key: part.module for part in zero_shot_parts(model, (40, 40))}


def test_the_bundle_says_what_the_service_needs(exported: Path) -> None:
    bundle = Bundle.read(exported)
    manifest = bundle.manifest
    assert (manifest.kind, manifest.name, manifest.version) == ("moeclip", "zero", "7")
    assert (manifest.grid, manifest.map_size, manifest.top_k) == ((5, 5), (40, 40), 2)
    assert (manifest.categories, list(bundle.class_scores), manifest.experts) == (("disc",), ["disc"], ())
    assert manifest.zero_shot is not None
    assert (manifest.zero_shot.context_length, len(manifest.zero_shot.abnormal)) == (10, 10)
    assert bundle.file_bytes(TOKENIZER).decode() == tiny_tokenizer().to_str()
    head = manifest.graphs["head"]
    assert head.inputs["text"].shape == ("r", 2, 24)
    assert head.outputs["map"].shape == ("r", 40, 40)
    assert manifest.graphs["text"].inputs["tokens"].shape == ("P", 10)
    assert manifest.graphs["vision"].outputs["tokens"].shape == ("B", 25, 24)


def test_no_token_is_gathered_or_scattered_for_an_expert(exported: Path) -> None:
    graph = onnx.load_from_string(Bundle.read(exported).graph_bytes("vision")).graph
    operations = {node.op_type for node in graph.node}
    assert "MatMul" in operations
    assert [one for one in operations if one.startswith(("Gather", "Scatter", "TopK", "NonZero"))] == []


def test_every_graph_equals_the_model(exported: Path, folder: Path) -> None:
    result = run("verify", exported, "--checkpoint", folder)
    assert result.exit_code == 0, result.output
    verified = Bundle.read(exported).manifest.verified
    assert verified is not None
    assert set(verified.largest) == {"vision", "text", "head", "map", "score"}
    assert max(verified.largest.values()) < 1e-5
    assert verified.random == 1 + 3 + 8


def test_inspect_lists_the_graphs(exported: Path) -> None:
    output = run("inspect", exported).output
    assert "zero version 7, moeclip" in output
    for key in ("vision", "text", "head"):
        assert key in output


def test_pictures_with_their_class_names_are_compared_as_the_service_answers_them(
    exported: Path, folder: Path, data: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(exported, tmp_path / "bundle")
    result = run("verify", bundle, "--checkpoint", folder, "--data", data)
    assert result.exit_code == 0, result.output
    verified = Bundle.read(bundle).manifest.verified
    assert verified is not None
    assert (verified.random, verified.real) == (12, 12)
    assert max(verified.largest.values()) < 1e-5
    rows = evaluate_run(load_run(folder), data, "industrial", quiet_progress())
    figures = {row.category: row.metrics.image_auroc for row in rows}
    assert verified.auroc == {name: (figures[name], figures[name]) for name in ("disc", "square")}


def test_categories_are_read_as_class_names(data: Path, tmp_path: Path) -> None:
    (tmp_path / "red_disc").symlink_to(data / "disc")
    assert {one.category for one in read_class_samples(tmp_path)} == {"red disc"}


def test_other_prompts_are_found_though_every_graph_is_equal(
    exported: Path, folder: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(exported, tmp_path / "bundle")
    manifest = json.loads((bundle / MANIFEST).read_text())
    prompts = manifest["zero_shot"]
    prompts["normal"], prompts["abnormal"] = prompts["abnormal"], prompts["normal"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    result = run("verify", bundle, "--checkpoint", folder)
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("differs by more than 0.0001 in map, score")


def test_another_run_is_told_by_what_it_has_otherwise(exported: Path, tmp_path: Path) -> None:
    config = tiny_config({"moe": None}).model_copy(update={"map_size": (20, 20)})
    save_run(tmp_path / "run", config, tiny_detector(config.model), tiny_tokenizer())
    result = run("verify", exported, "--checkpoint", tmp_path / "run")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "from another run: categories disc in the bundle, none of them in the run; top_k 2 in the" in line
    assert "map_size (40, 40) in the bundle, (20, 20) in the run" in line


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run wide enough for integers to be worth it."""
    clip = MODEL.clip.model_copy(
        update={
            "vision": MODEL.clip.vision.model_copy(update={"width": 64}),
            "text": MODEL.clip.text.model_copy(update={"width": 64}),
        }
    )
    config = tiny_config({"clip": clip.model_dump()})
    path = tmp_path_factory.mktemp("wide") / "run"
    save_run(path, config, tiny_detector(config.model), tiny_tokenizer())
    return path


@pytest.fixture(scope="module", params=["int8", "int8-static"])
def integers(request: pytest.FixtureRequest, wide: Path, data: Path) -> Bundle:
    folder = wide.parent / request.param
    built = run("build", wide, folder, "--precision", request.param, "--data", data)
    assert built.exit_code == 0, built.output
    assert "image AUROC in percent" in built.stdout
    return Bundle.read(folder)


def test_integers_are_judged_by_the_auroc_of_what_is_served(wide: Path, data: Path, integers: Bundle) -> None:
    bundle, samples = integers, read_class_samples(data)
    served = Served(bundle, ["disc", "square"])
    found = compare_zero_shot(bundle, load_run(wide), data, quiet_progress())
    assert found.tolerance is None
    for one in found.accuracy:
        members = [sample for sample in samples if sample.category == one.category]
        scores = served.scores(members, quiet_progress())
        assert one.bundle == auroc(np.array([sample.is_anomalous for sample in members]), scores)
    verified = run("verify", bundle.folder, "--checkpoint", wide)
    assert verified.exit_code == 1
    assert "is judged by its AUROC, for which test pictures are needed" in verified.stderr


@pytest.mark.parametrize("integers", ["int8"], indirect=True)
def test_what_is_narrow_stays_a_float(integers: Bundle) -> None:
    """Routers and experts; of the wide products the vision graph keeps those of two activations."""
    model = onnx.load_from_string(integers.graph_bytes("vision"))
    sides = {one.name: one.dims for one in model.graph.initializer}
    integer = [sides[node.input[1]] for node in model.graph.node if node.op_type == "MatMulInteger"]
    assert sorted(map(tuple, integer)) == sorted([(64, 192), (64, 64), (64, 256), (256, 64)] * 3)


@pytest.mark.parametrize(("name", "graph"), [("moe.1.lora_b", "vision"), ("clip.text_projection", "text")])
def test_other_weights_are_found(exported: Path, folder: Path, tmp_path: Path, name: str, graph: str) -> None:
    other = shutil.copytree(folder, tmp_path / "run")
    weights = load_file(other / WEIGHTS)
    save_file(weights | {name: weights[name].flip(0).contiguous()}, other / WEIGHTS)
    result = run("verify", exported, "--checkpoint", other)
    assert result.exit_code == 1
    assert f"differs by more than 0.0001 in {graph}" in result.stderr


@pytest.mark.parametrize("form", [("--format", "torchscript"), ("--precision", "fp16")])
def test_other_forms_equal_the_model_too(folder: Path, tmp_path: Path, form: tuple[str, str]) -> None:
    assert run("build", folder, tmp_path / "bundle", *form).exit_code == 0
    result = run("verify", tmp_path / "bundle", "--checkpoint", folder)
    assert result.exit_code == 0, result.output


@torch.no_grad()
def test_the_sum_of_tokens_says_as_much_as_all_of_them() -> None:
    """The head on summed tokens is the model's own map and score, each row of its own picture and texts."""
    model = tiny_detector()
    image = zero_shot_examples(MODEL, "vision", 3)["image"]
    tokens, summary, _ = parts(model)["vision"](image)
    prompts = model.read(zero_shot_examples(MODEL, "text", 8)["tokens"]).features
    texts = torch.stack([class_text(prompts[:2], prompts[2:4]), class_text(prompts[4:6], prompts[6:])])
    rows, medical = torch.tensor([2, 0, 2]), torch.tensor([False, True, True])
    maps, scores = parts(model)["head"](tokens, summary, rows, texts[[0, 1, 1]], medical)
    for i, (row, text) in enumerate([(2, 0), (0, 1), (2, 1)]):
        seen = model(model.normalise(image[row : row + 1]))
        margin = margins(patch_logits(seen.tokens, texts[text]))
        expected = served_map(margin, medical[i : i + 1], model.grid, (40, 40))
        torch.testing.assert_close(maps[i : i + 1], expected, atol=1e-5, rtol=1e-4)
        score = image_score(expected, image_logits(seen.summary, texts[text]), medical[i : i + 1])
        torch.testing.assert_close(scores[i : i + 1], score, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_hand_made_head_of_the_services_tests_is_ours(tmp_path: Path) -> None:
    bundle = Bundle.read(make_tiny_zero_shot_bundle(tmp_path / "tiny"))
    one_map = MODEL.model_copy(update={"layers": (3,), "scales": (1,)})
    head = {part.key: part.module for part in zero_shot_parts(MoECLIP(one_map), (SIZE, SIZE))}["head"]
    units = F.normalize(torch.randn(2, 25, 3), dim=-1)
    feeds = {
        "tokens": units,
        "summary": units[:, 3],
        "rows": torch.tensor([1, 0, 1]),
        "text": F.normalize(torch.randn(3, 2, 3), dim=-1),
        "medical": torch.tensor([True, False, False]),
    }
    found = open_graph(bundle, "head", "cpu").run({name: one.numpy() for name, one in feeds.items()})
    maps, scores = head(*feeds.values())
    torch.testing.assert_close(torch.from_numpy(found["map"]), maps, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(found["score"]), scores, atol=1e-4, rtol=0)


def test_what_cannot_be_had_is_refused(folder: Path, exported: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    for arguments, reason in (
        (("build", folder, output, "--precision", "int8-static"), "'int8-static' needs normal pictures"),
        (("build", folder, output, "--categories", "disc"), "categories: a zero-shot bundle carries all"),
        (("build", folder, output, "--data", tmp_path), "no pictures found"),
        (("verify", exported, "--checkpoint", folder, "--data", tmp_path), "no pictures found"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1, result.output
        assert reason in result.stderr
    assert not output.exists()


def test_a_tokenizer_of_another_length_is_refused(folder: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(9)
    tokenizer.enable_padding(length=9)
    shorter = replace(load_run(folder), tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"tokenizer\.json: gives 9 ids, the model takes 10"):
        build_zero_shot_bundle(shorter, tmp_path / "bundle", "x", "1", Form())

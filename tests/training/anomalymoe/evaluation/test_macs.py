"""MACs: the paper's model against formulas written out by hand, and what the router's choice makes of it."""

import pytest
from rich.console import Console

from tests.training.tiny_run import tiny_config
from training.anomalymoe.evaluation.macs import Macs, count_macs, macs_on_average, macs_table
from training.anomalymoe.fit_config import FitConfig, preset, with_levels
from training.anomalymoe.presets import OFFICIAL_STUDENT, official_config
from training.reporting.macs import in_words

WIDTH, PATCHES, TOKENS = 768, 28 * 28, 28 * 28 + 5  # a cls token and four registers
HEAD_WIDTH = 64
LAYERS = 12 * WIDTH**2 * TOKENS  # of one block: queries, keys, values, projection, and an MLP of ratio 4


def official(scoring: str) -> FitConfig:
    """The released model at 392 pixels; `student` is how its weights score."""
    detector = official_config()
    scored = detector.global_.model_copy(update={"scoring": scoring})
    full_size = preset("dinov2-reg-base")
    return full_size.model_copy(update={"detector": detector.model_copy(update={"global_": scored})})


@pytest.fixture(scope="module")
def released() -> Macs:
    return count_macs(official("student"))


def test_the_encoder_is_that_of_the_formula(released: Macs) -> None:
    softmax_attention = 2 * TOKENS**2 * WIDTH
    embedding = PATCHES * WIDTH * 3 * 14 * 14
    assert released.encoder == 12 * (LAYERS + softmax_attention) + embedding
    assert released.encoder == pytest.approx(78.5e9, rel=0.01)


def test_a_patch_expert_is_that_of_the_formula_with_its_linear_attention(released: Macs) -> None:
    linear_attention = 2 * TOKENS * WIDTH * HEAD_WIDTH + TOKENS * WIDTH
    bottleneck = 8 * WIDTH**2 * TOKENS
    assert released.experts["patch"] == 8 * (LAYERS + linear_attention) + bottleneck
    assert released.experts["patch"] == pytest.approx(49.0e9, rel=0.01)


def test_the_small_parts_are_those_of_the_formula(released: Macs) -> None:
    components, side, grid, levels, chosen = 8, 256, 28, 3, 3
    assert released.router == WIDTH * 256 + 256 * 18
    assert released.masks == components * PATCHES * WIDTH
    pooling = components * PATCHES * WIDTH
    autoencoder = components * 2 * (WIDTH * 256 + 256 * 64 + 64 * 64)
    assert released.experts["component"] == pooling + autoencoder
    upsampling = side * grid * grid + side * grid * side
    assert released.head == levels * upsampling + levels * chosen * PATCHES


def test_the_student_is_that_of_the_formula(released: Macs) -> None:
    sizes, channels = (392, 196, 28, 28, 28, 28), 3
    expected = 0
    for size, stage in zip(sizes, OFFICIAL_STUDENT, strict=True):
        wide = WIDTH if stage.channels == "width" else stage.channels
        expected += size**2 * channels * wide * stage.kernel**2
        channels = wide
    assert released.student == expected
    assert released.student == pytest.approx(51.7e9, rel=0.01)


def test_the_student_counts_only_where_it_scores(released: Macs) -> None:
    by_target = count_macs(official("target"))
    assert by_target.experts["global"] == pytest.approx(3.6e9, rel=0.01)
    assert by_target.student == released.student
    assert released.experts["global"] == by_target.experts["global"] + (released.student or 0)


def test_dense_and_sparse_sums_are_those_known_of_the_released_model(released: Macs) -> None:
    assert released.dense + released.encoder == pytest.approx(783e9, rel=0.01)  # it encodes twice
    assert released.most == pytest.approx(244e9, rel=0.01)
    three_autoencoders = released.encoder + 3 * (released.experts["global"] - (released.student or 0))
    assert three_autoencoders == pytest.approx(90e9, rel=0.01)
    assert released.encoder < released.least < three_autoencoders


def test_per_level_routing_always_needs_one_expert_of_each_level() -> None:
    macs = count_macs(tiny_config())
    shared = macs.encoder + macs.router + macs.masks + macs.head
    assert macs.least == macs.most == shared + sum(macs.experts.values())
    twice = 2 * macs.experts["patch"] + 2 * macs.experts["component"] + macs.experts["global"]
    assert macs.dense == shared + twice
    assert macs.student is None


def test_a_level_that_is_not_in_use_has_no_macs() -> None:
    macs = count_macs(with_levels(tiny_config(), ("patch",)))
    assert list(macs.experts) == ["patch"]


def test_the_average_follows_the_shares() -> None:
    macs = Macs(100, 10, 3, 2, {"patch": 50, "global": 20}, None, 135, 165, 185)
    levels = ("patch", "patch", "global")
    assert macs_on_average(macs, levels, [1, 0, 0]) == 165
    assert macs_on_average(macs, levels, [0.25, 0.25, 0.5]) == 150


def test_the_table_names_every_part() -> None:
    console = Console(width=100, file=None)
    with console.capture() as capture:
        console.print(macs_table(Macs(78_841, 10, 3, 2, {"patch": 5_400_000}, 7, 5_478_856, 5_478_857, 12)))
    lines = [line.split("│")[1:3] for line in capture.get().splitlines() if line.count("│") == 3]
    rows = {name.strip(): count.strip() for name, count in lines}
    assert rows["encoder"] == "78.8 k"
    assert rows["patch expert"] == "5.40 M"
    assert rows["student of a global expert"] == "7"
    assert rows["dense, all experts"] == "12"


@pytest.mark.parametrize(
    ("macs", "text"),
    [(7.836e11, "784 G"), (3.6e9, "3.60 G"), (4.9e7, "49.0 M"), (999.7e6, "1.00 G"), (999, "999"), (0, "0")],
)
def test_counts_have_three_digits(macs: float, text: str) -> None:
    assert in_words(macs) == text

"""Names become vectors as by hand; prompts share runs; what does not fit is told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.contract.bundle import Bundle, BundleError, write_bundle
from export.contract.category import FloatArray
from export.contract.manifest import TOKENIZER
from service.inference import text_tower
from service.inference.backends.base import GraphError
from service.inference.text_tower import ClassText, NameTooLongError, TextTower
from tests.service.inference.test_anomalymoe import CountingGraph
from tests.tiny_zero_shot_bundle import CONTEXT, WORDS, make_tiny_zero_shot_bundle, tiny_tokenizer


def open_tower(folder: Path) -> TextTower:
    return TextTower(Bundle.read(folder), device="cpu", threads=1)


@pytest.fixture
def tower(zero_shot_folder: Path) -> TextTower:
    return open_tower(zero_shot_folder)


def count_runs(tower: TextTower) -> CountingGraph:
    tower.graph = counting = CountingGraph(tower.graph)
    return counting


def only_texts(results: list[ClassText | Exception]) -> list[ClassText]:
    assert all(isinstance(result, ClassText) for result in results), results
    return [result for result in results if isinstance(result, ClassText)]


def unit(*vector: float) -> FloatArray:
    return (np.array(vector) / np.linalg.norm(vector)).astype(np.float32)


def with_tokenizer(folder: Path, change: Callable[[Tokenizer], object]) -> Path:
    """The tiny bundle with a changed tokenizer."""
    bundle = Bundle.read(make_tiny_zero_shot_bundle(folder / "plain"))
    tokenizer = tiny_tokenizer()
    change(tokenizer)
    contents = {path: bundle.file_bytes(path) for path in bundle.manifest.files}
    write_bundle(folder / "other", bundle.manifest, {**contents, TOKENIZER: tokenizer.to_str().encode()})
    return folder / "other"


def test_a_name_is_the_mean_direction_of_its_prompts(tower: TextTower) -> None:
    """Each prompt is the sum of its words: <start> (0.01, 0.01, 0), the name, and what damage is said."""
    (text,) = only_texts(tower.run(["brick"]))
    normal, abnormal = unit(1.01, 0.01, 0), unit(1.01, 0.01, 1)
    np.testing.assert_allclose(text.states, [normal, abnormal], atol=1e-6)
    np.testing.assert_allclose(text.embedding, unit(*(normal + abnormal)), atol=1e-6)


def test_names_get_their_own_texts_in_order_from_one_run(tower: TextTower) -> None:
    alone = [only_texts(tower.run([name]))[0] for name in ("slate", "brick", "window")]
    runs = count_runs(tower)
    together = only_texts(tower.run(["slate", "brick", "window"]))
    assert len(runs.calls) == 1
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.states, other.states)
        np.testing.assert_array_equal(one.embedding, other.embedding)


def test_one_run_takes_a_bounded_number_of_prompts(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = only_texts(tower.run(["slate", "brick"]))
    monkeypatch.setattr(text_tower, "MAX_PROMPTS", 3)
    runs = count_runs(tower)
    found = only_texts(tower.run(["slate", "brick"]))
    assert [np.asarray(feeds["tokens"]).shape for feeds in runs.calls] == [(3, CONTEXT)] * 2 + [(2, CONTEXT)]
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one.states, other.states)


def test_braces_in_a_name_are_text(tower: TextTower) -> None:
    braces, unknown = only_texts(tower.run(["{}", "window"]))
    np.testing.assert_allclose(braces.states, unknown.states, atol=1e-6)


def test_name_with_too_many_tokens_fails_alone(tower: TextTower) -> None:
    """The longest prompt, "a photo of a {}", has four words beside the name, and two tokens are its ends."""
    longest, too_long = " ".join(["brick"] * (CONTEXT - 6)), " ".join(["brick"] * (CONTEXT - 5))
    fine, failed, other = tower.run([longest, too_long, "slate"])
    assert isinstance(fine, ClassText)
    assert isinstance(failed, NameTooLongError)
    assert failed.args == (too_long,)
    assert isinstance(other, ClassText)


def test_names_that_are_too_long_do_not_run_the_graph(
    tower: TextTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextTower, "_encode", lambda *_: pytest.fail("the graph ran"))
    assert all(isinstance(one, NameTooLongError) for one in tower.run([" ".join(["brick"] * CONTEXT)] * 2))


def test_special_token_in_a_name_is_text(tmp_path: Path) -> None:
    """Else a name could end its own prompts and leave out what they say of damage."""
    special = with_tokenizer(tmp_path, lambda tokenizer: tokenizer.add_special_tokens(["<end>", "brick"]))
    runs = count_runs(tower := open_tower(special))
    tower.run(["<end>"])
    tokens = np.asarray(runs.calls[0]["tokens"])
    assert (tokens == list(WORDS).index("<end>")).sum(axis=1).tolist() == [1] * len(tokens)


def test_tokenizer_of_another_length_is_refused(tmp_path: Path) -> None:
    longer = with_tokenizer(tmp_path, lambda tokenizer: tokenizer.enable_padding(length=CONTEXT + 1))
    with pytest.raises(BundleError, match=rf"tokenizer.json: gives {CONTEXT + 1} tokens"):
        open_tower(longer)


def test_tokenizer_that_does_not_shorten_is_refused(tmp_path: Path) -> None:
    endless = with_tokenizer(tmp_path, lambda tokenizer: tokenizer.no_truncation())
    with pytest.raises(BundleError, match=rf"tokenizer.json: gives {CONTEXT + 2} tokens"):
        open_tower(endless)


def test_broken_tokenizer_is_named(tmp_path: Path) -> None:
    bundle = Bundle.read(make_tiny_zero_shot_bundle(tmp_path / "plain"))
    contents = {path: bundle.file_bytes(path) for path in bundle.manifest.files}
    write_bundle(tmp_path / "broken", bundle.manifest, {**contents, TOKENIZER: b"{}"})
    with pytest.raises(BundleError, match=r"tokenizer.json: "):
        open_tower(tmp_path / "broken")


def test_vector_that_is_not_finite_fails_its_name(tower: TextTower) -> None:
    class NanGraph(CountingGraph):
        def run(self, feeds):
            answer = super().run(feeds)
            answer["features"][0] = np.nan
            return answer

    tower.graph = NanGraph(tower.graph)
    failed, fine = tower.run(["brick", "slate"])
    assert isinstance(failed, GraphError)
    assert isinstance(fine, ClassText)
    with pytest.raises(GraphError, match="not finite"):
        tower.warm_up()

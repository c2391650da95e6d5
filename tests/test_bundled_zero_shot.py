"""The zero-shot bundle of the repository: small, whole, able to see damage on things it had no masks of."""

from pathlib import Path

import numpy as np
import pytest

from export.contract.bundle import Bundle
from service.inference.moeclip import ZeroShotEngine, ZeroShotInput, ZeroShotOutcome
from service.inference.text_tower import ClassText
from training.demo.things.damages import DAMAGES
from training.demo.things.scene import Drawn, Thing, draw_twins
from training.demo.things.split import NOVEL, TEST

BUNDLES = Path(__file__).parents[1] / "bundles"
FOLDER = BUNDLES / "zero-shot"
SEED = 987_654

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="bundles/zero-shot has not been built")


@pytest.fixture(scope="module")
def engine() -> ZeroShotEngine:
    return ZeroShotEngine(Bundle.read(FOLDER), device="cpu", threads=1)


def twins(thing: Thing, damage: str) -> tuple[Drawn, Drawn]:
    """The first twins of the test's own seeds that show the damage."""
    for seed in range(SEED, SEED + 20):
        try:
            return draw_twins(thing, seed, damage)
        except ValueError:
            continue
    raise AssertionError(f"no {damage} on a {thing.name}")


def found(engine: ZeroShotEngine, drawn: list[Drawn], names: tuple[str, ...]) -> list[ZeroShotOutcome]:
    texts = [text for text in engine.tower.run(names) if isinstance(text, ClassText)]
    assert len(texts) == len(names)
    results = engine.run([ZeroShotInput(one.picture, tuple(texts), all_maps=True) for one in drawn])
    findings = [one for one in results if isinstance(one, ZeroShotOutcome)]
    assert len(findings) == len(drawn), results
    return findings


def test_it_is_whole() -> None:
    manifest = Bundle.read(FOLDER).manifest
    assert manifest.kind == "moeclip"
    assert manifest.top_k == 2
    assert manifest.verified is not None
    assert manifest.verified.real == 12
    assert set(manifest.verified.auroc) == {thing.name for thing in TEST}


def test_all_bundles_of_the_repository_are_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLES.rglob("*") if path.is_file()) < 18e6


@pytest.mark.parametrize("things", [TEST, NOVEL], ids=["no masks", "no captions either"])
def test_damage_scores_higher_than_the_whole_twin(engine: ZeroShotEngine, things: tuple[Thing, ...]) -> None:
    higher = []
    for thing in things:
        for damage in DAMAGES:
            whole, damaged = found(engine, list(twins(thing, damage)), (thing.name,))
            higher.append(damaged.scores[0] > whole.scores[0])
    assert np.mean(higher) >= 0.85


def test_the_map_is_higher_where_the_damage_is(engine: ZeroShotEngine) -> None:
    inside, outside = [], []
    for thing in TEST:
        for damage in DAMAGES:
            damaged = twins(thing, damage)[1]
            (finding,) = found(engine, [damaged], (thing.name,))
            inside.append(finding.maps[0][damaged.mask].mean())
            outside.append(finding.maps[0][~damaged.mask].mean())
    assert np.mean(np.array(inside) > np.array(outside)) >= 0.9
    assert np.mean(inside) > 3 * np.mean(outside)


def test_other_pictures_in_the_batch_do_not_matter(engine: ZeroShotEngine) -> None:
    drawn = [one for thing in TEST[:4] for one in twins(thing, "crack")]
    together = found(engine, drawn, ("object",))
    for one, other in zip(drawn, together, strict=True):
        alone = found(engine, [one], ("object",))[0]
        assert alone.scores[0] == pytest.approx(other.scores[0], abs=1e-4)


def test_the_name_of_a_thing_is_told_from_others(engine: ZeroShotEngine) -> None:
    names = ("glass bottle", "metal gear", "wooden board", "ceramic cup")
    things = [thing for thing in TEST if thing.name in names]
    right = []
    for thing in things:
        for damage in DAMAGES:
            whole = twins(thing, damage)[0]
            right.append(names[found(engine, [whole], names)[0].best] == thing.name)
    assert np.mean(right) >= 0.7

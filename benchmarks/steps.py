"""The service's own steps from an encoded picture to an answer and no more, for whatever serves them."""

from collections.abc import Sequence
from pathlib import Path

from export.contract.bundle import Bundle
from service.detection.decision import decide
from service.detection.map_answer import draw
from service.images.decode import Opened, open_picture
from service.inference.anomalymoe import Engine, Outcome, Picture
from service.schemas.detect import DetectParameters

PARAMETERS = DetectParameters()
MAX_PIXELS = 100_000_000


class Steps:
    """One bundle's engine, warm, with `threads` threads a run (0: as many as there are cores)."""

    def __init__(self, bundle_folder: Path, threads: int = 0) -> None:
        bundle = Bundle.read(bundle_folder)
        self._engine = Engine(bundle, threads=threads)
        self._engine.warm_up()
        self._spec, self._alpha = bundle.manifest.input, bundle.manifest.calibration.alpha

    def decode(self, data: bytes) -> Opened:
        """An encoded picture at model size. Raises Problem when it cannot be decoded."""
        return open_picture(data, self._spec, MAX_PIXELS)

    def run(self, pictures: Sequence[Opened]) -> list[Outcome]:
        """A batch through the engine. Raises what it says about any of them."""
        outcomes: list[Outcome] = []
        for outcome in self._engine.run([Picture(opened.pixels) for opened in pictures]):
            if isinstance(outcome, Exception):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    def encode(self, opened: Opened, outcome: Outcome) -> dict[str, object]:
        """The answer: score, verdict, regions, and the map as base64."""
        decision = decide(outcome, self._alpha)
        anomaly_map, regions = draw(opened, outcome, decision, PARAMETERS, self._spec)
        assert anomaly_map is not None
        return {
            "score": decision.score,
            "is_anomalous": decision.is_anomalous,
            "regions": [vars(region) for region in regions],
            "map": anomaly_map.data,
        }

    def answer(self, data: bytes) -> dict[str, object]:
        """From an encoded picture to its answer, alone."""
        opened = self.decode(data)
        (outcome,) = self.run([opened])
        return self.encode(opened, outcome)

"""What the ETF and the balance loss do: `python -m tests.training.moeclip.specialisation STEPS WEIGHT`.

The tiny model on pictures of two classes, once without both losses, once with each, once with both; from the
same seeds, for as many steps.
"""

import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch

from tests.training.moeclip.tiny import auxiliary, tiny_config, tiny_detector, tiny_tokenizer
from tests.training.tiny_run import no_resume, quiet_progress, write_data
from training.data.dataset import find_samples
from training.moeclip.analysis.observation import observe
from training.moeclip.analysis.report import summarise
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.loop import train_adapters


class Specialisation(NamedTuple):
    """similarity: mean cosine of what two experts say. imbalance: CV^2 of the use of the experts.

    Both are means over the MoE layers, on the test pictures.
    """

    similarity: float
    imbalance: float


def specialisation(
    data: Path, etf_weight: float, balance_weight: float, steps: int, seed: int = 0
) -> Specialisation:
    """Train for so many steps and look at the experts."""
    config = tiny_config(steps=steps, etf_weight=etf_weight, balance_weight=balance_weight, seed=seed)
    model = tiny_detector(config.model, seed)
    train_adapters(model, tiny_tokenizer(), auxiliary(data), config.train, lambda *_: None, no_resume())
    run = Checkpoint[RunConfig](config, model, tiny_tokenizer(), {})
    test = [one for one in find_samples(data) if one.split == "test"]
    seen = observe(run, test, quiet_progress())
    found = summarise(seen, [class_name(one) for one in test], config.model.layers)
    use_LK = torch.from_numpy(found.use[:, -1])
    imbalance = (use_LK.var(1) / use_LK.mean(1).square()).mean().item()
    return Specialisation(sum(found.mean_similarity) / len(found.layers), imbalance)


def main(steps: int, weight: float, seeds: int = 1) -> None:
    """Print a row for each choice of losses: means over some seeds."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder))
        for etf, balance in ((0.0, 0.0), (weight, 0.0), (0.0, weight), (weight, weight)):
            found = [specialisation(data, etf, balance, steps, seed) for seed in range(seeds)]
            similarity, imbalance = (fmean(column) for column in zip(*found, strict=True))
            print(f"ETF {etf:<5} balance {balance:<5} similarity {similarity:+.3f} imbalance {imbalance:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), *map(int, sys.argv[3:]))

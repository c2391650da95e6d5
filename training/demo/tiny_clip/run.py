"""From pairs of pictures to a run whose CLIP is trained, ready for `anomoe-train fit --method moeclip`."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.progress import Progress
from torch import tensor

from training.demo.things.captions import vocabulary
from training.demo.things.pairs import Pairs
from training.demo.things.scene import SIZE
from training.demo.tiny_clip.model import CONTEXT_LENGTH, DEMO_INPUT, MERGES, demo_fit, demo_model
from training.demo.tiny_clip.pretrain import PretrainConfig, pretrain
from training.moeclip.checkpoint import RunConfig, save_run
from training.moeclip.model.detector import MoECLIP
from training.moeclip.model.tokenizer import train_tokenizer
from training.runs.files import write_text
from training.runs.half_precision import round_to_half
from training.runs.record import Record
from training.runs.resume import Resume, fingerprint

STATE, CURVES, FIT = "clip.state.safetensors", "curves", "fit.json"


def make_clip(folder: Path, output: Path, config: PretrainConfig, progress: Progress) -> Path:
    """Train on the pairs in `folder` and write a run with untrained adapters to `output`.

    The weights of the CLIP are rounded to half-precision numbers, which bundles store at half the size.
    Returns the file with the settings that its adapters are to be trained with. A stopped training with the
    same settings and pictures goes on where it was. Raises OSError or ValueError for pairs that cannot be
    read, ResumeError for a state that cannot be.
    """
    pairs = Pairs.read(folder)
    tokenizer = train_tokenizer(vocabulary(), MERGES, CONTEXT_LENGTH)
    torch.manual_seed(config.seed)
    model = MoECLIP(demo_model(tokenizer.get_vocab_size()))
    record = Record(output / CURVES, config.steps)
    key = fingerprint(
        config.model_dump_json(exclude={"save_every"}), [pairs.pictures[:: len(pairs.facts) // 100 or 1]]
    )
    resume = Resume(output / STATE, key, config.save_every, {"record": record})
    task = progress.add_task("clip", total=config.steps)

    def on_step(step: int, loss: float) -> None:
        if record.add(step, {"loss/total": tensor(loss)}):
            progress.update(task, description=f"clip, loss {record.losses[-1]['total']:.3f}")
        progress.update(task, completed=step)

    pretrain(model, tokenizer, pairs, config, on_step, resume)
    record.close()
    round_to_half(model.clip)
    settings = RunConfig(model=model.config, input=DEMO_INPUT, map_size=(SIZE, SIZE))
    save_run(output, settings, model, tokenizer, report={"losses": record.losses})
    write_text(output / FIT, demo_fit(model.config).model_dump_json(indent=2) + "\n")
    resume.remove()
    return output / FIT

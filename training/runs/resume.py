"""The state of training under way, in one file: tensors as safetensors, the rest as JSON in its header.

The file replaces the former one at once or not at all, so that a killed run leaves a whole one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.distributed import is_main


class ResumeError(ValueError):
    """A state that cannot be gone on from; the message names the file."""


class Stateful(Protocol):
    """A module, an optimiser, a schedule, or anything else that tells its state and takes it back."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> object: ...


@dataclass(frozen=True)
class Resume:
    """Where the state is kept, of which settings and data it is, and after how many steps it is saved.

    others: what the state holds besides that of the training itself.
    """

    path: Path
    key: str
    every: int
    others: Mapping[str, Stateful] = field(default_factory=dict)

    def save(self, step: int, parts: Mapping[str, Stateful]) -> None:
        """Keep the state after a step, if it is time for it; by the first process only."""
        if step % self.every or not is_main():
            return
        tensors: dict[str, Tensor] = {}
        states = {name: part.state_dict() for name, part in {**parts, **self.others}.items()}
        facts = {"step": step, "state": _pack(states, tensors, "")}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.part")
        save_file(tensors, beside, metadata={"key": self.key, "facts": json.dumps(facts)})
        beside.replace(self.path)

    def load(self, parts: Mapping[str, Stateful]) -> int:
        """Fill the parts with the kept state; returns its step, 0 if there is none of this key.

        Raises ResumeError for a file that cannot be read.
        """
        step, states = self._read()
        if step:
            for name, part in {**parts, **self.others}.items():
                part.load_state_dict(states[name])
        return step

    def remove(self) -> None:
        """Forget the state of a run that is finished."""
        if is_main():
            self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[int, dict[str, Any]]:
        if not self.path.is_file():
            return 0, {}
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return 0, {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                facts = json.loads(metadata["facts"])
        except (OSError, SafetensorError) as error:
            raise ResumeError(f"{self.path}: cannot be read, remove it to start again: {error}") from error
        return facts["step"], _unpack(facts["state"], tensors)


def fingerprint(settings: str, arrays: Iterable[npt.NDArray[np.generic]]) -> str:
    """Short name of settings and data: another as soon as either differs."""
    digest = hashlib.sha256(settings.encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _pack(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """JSON of a nested state; its tensors are put into `tensors` and named by where they were."""
    if isinstance(value, Tensor):
        # Tensors that share memory may not be saved together.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        # Pairs, for the numbers that optimisers use as keys would become strings.
        return {"items": [[key, _pack(one, tensors, f"{name}/{key}")] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(one, tensors, f"{name}/{number}") for number, one in enumerate(value)]
    return value


def _unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(packed, list):
        return [_unpack(one, tensors) for one in packed]
    if isinstance(packed, dict) and "tensor" in packed:
        return tensors[packed["tensor"]]
    if isinstance(packed, dict):
        return {key: _unpack(one, tensors) for key, one in packed["items"]}
    return packed

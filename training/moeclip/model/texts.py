"""What the text tower says of class names: computed once, as it is frozen; a text adapter follows each step.

Legend: C class names, P prompts of a name, D width of the text tower, E embedding.
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from training.moeclip.model.detector import MoECLIP, class_text
from training.moeclip.model.prompts import PROMPTS
from training.moeclip.model.tokenizer import token_ids


class ClassTexts:
    """The normal and the anomalous direction of class names."""

    def __init__(self, model: MoECLIP, tokenizer: Tokenizer, names: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._adapter, self._projection = model.text_adapter, model.clip.text_projection
        prompts = [PROMPTS[model.config.prompts].fill(name) for name in self.names]
        self._normal_count = len(prompts[0].normal)
        ids = [token_ids(tokenizer, [*one.normal, *one.abnormal]) for one in prompts]
        with torch.no_grad():
            self._final_CPD = torch.stack([model.clip.read_text(one.to(model.mean.device)) for one in ids])
            self._frozen_C2E = None if self._adapter else self._read(self._final_CPD)

    def of(self, names: Sequence[str]) -> Tensor:
        """The directions (B, 2, E) of the class of each picture, normal first, where the model is now."""
        device = self._projection.device
        rows = torch.tensor([self.names.index(name) for name in names], device=self._final_CPD.device)
        if self._frozen_C2E is not None:
            return self._frozen_C2E[rows].to(device)
        classes, place = rows.unique(return_inverse=True)
        return self._read(self._final_CPD[classes].to(device))[place.to(device)]

    def _read(self, final_CPD: Tensor) -> Tensor:
        projected = self._adapter(final_CPD) if self._adapter else final_CPD @ self._projection
        features_CPE = F.normalize(projected, dim=-1)
        normal = self._normal_count
        return torch.stack([class_text(one[:normal], one[normal:]) for one in features_CPE])

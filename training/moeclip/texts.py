"""What the text tower says of class names: computed once, as it is frozen; a text adapter follows each step.

Legend: C class names, P prompts of a name, D width of the text tower, E embedding.
"""

from collections.abc import Callable, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from training.moeclip.detector import MoECLIP, class_text
from training.moeclip.prompts import PROMPTS

Tokenise = Callable[[Sequence[str]], Tensor]


def tokeniser(tokenizer: Tokenizer) -> Tokenise:
    """Texts to token ids int64 (n, L), by a tokenizer that adds start and end and pads to the length."""
    return lambda texts: torch.tensor([one.ids for one in tokenizer.encode_batch(list(texts))])


class ClassTexts:
    """The normal and the anomalous direction of class names.

    tokenise: texts to token ids (n, L).
    """

    def __init__(self, detector: MoECLIP, tokenise: Tokenise, names: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._adapter = detector.text_adapter
        prompts = [PROMPTS[detector.config.prompts].fill(name) for name in self.names]
        self._normal_count = len(prompts[0].normal)
        device = detector.mean.device
        with torch.no_grad():
            final = [
                detector.clip.read_text(tokenise([*one.normal, *one.abnormal]).to(device)) for one in prompts
            ]
        self._final_CPD = torch.stack(final)
        self._frozen_C2E = None if self._adapter else self._read(detector, self._final_CPD)

    def of(self, detector: MoECLIP, names: Sequence[str]) -> Tensor:
        """The directions (B, 2, E) of the class of each picture, normal first."""
        rows = torch.tensor([self.names.index(name) for name in names], device=self._final_CPD.device)
        if self._frozen_C2E is not None:
            return self._frozen_C2E[rows]
        classes, place = rows.unique(return_inverse=True)
        return self._read(detector, self._final_CPD[classes])[place]

    def _read(self, detector: MoECLIP, final_CPD: Tensor) -> Tensor:
        adapter = detector.text_adapter
        projected = final_CPD @ detector.clip.text_projection if adapter is None else adapter(final_CPD)
        features_CPE = F.normalize(projected, dim=-1)
        return torch.stack(
            [class_text(one[: self._normal_count], one[self._normal_count :]) for one in features_CPE]
        )

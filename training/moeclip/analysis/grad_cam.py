"""Where what an expert says makes a picture anomalous: its Grad-CAM (Figure 3 of the MoECLIP paper).

Written out, as the package of that name brings OpenCV, Matplotlib and nine more for two equations.
Legend: B pictures, T tokens, N patches, K experts, D width.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.pictures import Sample, load_picture
from training.moeclip.auxiliary import class_name
from training.moeclip.checkpoint import Checkpoint, RunConfig
from training.moeclip.model.maps import image_logits
from training.moeclip.model.texts import ClassTexts

Floats = npt.NDArray[np.float32]


def grad_cams(run: Checkpoint[RunConfig], samples: Sequence[Sample]) -> list[Floats]:
    """Grad-CAM (B, N, K) of the experts of each MoE layer, 0..1 of the highest of its picture and layer.

    Of the margin of the image score (Eq. 14), anomalous less normal. Source: Selvaraju et al., ICCV 2017.
    """
    names = [class_name(one) for one in samples]
    text_B2E = ClassTexts(run.model, run.tokenizer, names).of(names)
    pixels = torch.from_numpy(np.stack([load_picture(one.path, run.config.input) for one in samples]))
    seen = run.model(run.model.normalise(pixels), by_expert=True)
    outputs: list[Tensor] = [one.expert_outputs for one in seen.moe]
    logits_B2 = image_logits(seen.summary, text_B2E)
    gradients = torch.autograd.grad((logits_B2[:, 1] - logits_B2[:, 0]).sum(), outputs)
    return [
        cam(one[:, 1:], slope[:, 1:]).cpu().numpy() for one, slope in zip(outputs, gradients, strict=True)
    ]


def cam(outputs_BNKD: Tensor, gradients_BNKD: Tensor) -> Tensor:
    """Eqs. 1 and 2 of Grad-CAM: channels weighted by the mean of their gradients, what is below 0 cut off."""
    weights_BKD = gradients_BNKD.mean(1)
    cams_BNK = torch.einsum("bnkd,bkd->bnk", outputs_BNKD.detach(), weights_BKD).relu()
    return cams_BNK / cams_BNK.amax((1, 2), keepdim=True).clamp(min=torch.finfo(cams_BNK.dtype).tiny)

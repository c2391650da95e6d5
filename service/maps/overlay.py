"""The map drawn over the picture."""

import numpy as np
from PIL import Image

from service.maps.components import Mask
from service.maps.resize import Drawn

# Dark violet, purple, red, orange, pale yellow: brightness rises evenly, so the ramp also reads in grey.
_RAMP = ((13, 8, 60), (120, 28, 109), (213, 62, 60), (250, 158, 40), (252, 255, 164))
_OUTLINE = (255, 255, 255)
_HIGHEST_OPACITY = 0.7


def overlay(picture: Image.Image, levels: Drawn) -> Image.Image:
    grey = Image.fromarray(levels)
    base = picture if picture.size == grey.size else picture.resize(grey.size)
    heat = grey.copy()
    heat.putpalette(_palette())
    opacity = grey.point([round(value * _HIGHEST_OPACITY) for value in range(256)])
    blended = Image.composite(heat.convert("RGB"), base, opacity)
    blended.paste(_OUTLINE, mask=Image.fromarray(_edge(levels > 127)))
    return blended


def _palette() -> bytes:
    """The ramp at 256 places: red, green, blue, red, ..."""
    anchors = np.linspace(0, 255, len(_RAMP))
    channels = [np.interp(np.arange(256), anchors, [colour[i] for colour in _RAMP]) for i in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8).tobytes()


def _edge(mask: Mask) -> Mask:
    """Pixels of a mask with a neighbour outside it, left, right, above or below."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner

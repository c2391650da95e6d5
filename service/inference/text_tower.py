"""A class name's prompts through tokenizer and text graph, to the vectors that pictures are held against.

Shape letters: P prompts, L context length, E embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from export.contract.bundle import Bundle, BundleError
from export.contract.category import FloatArray
from export.contract.manifest import TOKENIZER
from service.inference.backends.base import Device, GraphError
from service.inference.backends.loading import open_graph

Tokens = npt.NDArray[np.int64]

MAX_PROMPTS = 64  # in one run of the graph, which no other caller's name can interrupt; more are no faster


class NameTooLongError(ValueError):
    """A class name, its only argument, whose prompts do not fit into the context of the text tower."""


@dataclass(frozen=True, eq=False)
class ClassText:
    """What the text tower says about one class name, in vectors of unit length.

    states (2, E): the mean direction of the normal prompts, then of the abnormal ones.
    embedding (E,): the mean direction of all prompts in CLIP's own space, to choose between names.
    """

    states: FloatArray
    embedding: FloatArray


class TextTower:
    """Encodes class names with the text graph of one bundle; several threads may use it at once.

    Raises BundleError or GraphError when tokenizer or graph cannot be loaded or do not fit each other.
    """

    def __init__(self, bundle: Bundle, *, device: Device = "auto", threads: int = 0) -> None:
        spec = bundle.manifest.zero_shot
        assert spec is not None
        self._normal = len(spec.normal)
        self._prompts = (*spec.normal, *spec.abnormal)
        self._tokenizer = _tokenizer(bundle, spec.context_length)
        self.graph = open_graph(bundle, "text", device, threads)

    @property
    def names_at_once(self) -> int:
        """How many names fill one run of the graph."""
        return max(1, MAX_PROMPTS // len(self._prompts))

    def run(self, names: Sequence[str]) -> list[ClassText | Exception]:
        """One text or one exception per name, in order; the prompts of all names share runs of the graph.

        A name that is too long costs no run. Raises GraphError when the graph fails.
        """
        tokens = [self._tokens(name) for name in names]
        fitting = [(name, one) for name, one in zip(names, tokens, strict=True) if one is not None]
        texts = iter(self._texts(fitting))
        return [
            NameTooLongError(name) if one is None else next(texts)
            for name, one in zip(names, tokens, strict=True)
        ]

    def warm_up(self) -> ClassText:
        """The text of some name. Raises GraphError when the graph fails or its vectors are not finite."""
        (result,) = self.run(["object"])
        if isinstance(result, Exception):
            raise result
        return result

    def _encode(self, tokens: Tokens) -> tuple[FloatArray, FloatArray]:
        """Features and embeddings (P, E) of tokens (P, L)."""
        parts = [
            self.graph.run({"tokens": tokens[start : start + MAX_PROMPTS]})
            for start in range(0, len(tokens), MAX_PROMPTS)
        ]
        features, embedding = (
            np.concatenate([part[name] for part in parts]).astype(np.float32)
            for name in ("features", "embedding")
        )
        return features, embedding

    def _tokens(self, name: str) -> Tokens | None:
        """Of the name's prompts (P, L), unless one of them is too long."""
        encodings = self._tokenizer.encode_batch([prompt.replace("{}", name) for prompt in self._prompts])
        if any(encoding.overflowing for encoding in encodings):
            return None
        return np.array([encoding.ids for encoding in encodings], np.int64)

    def _texts(self, fitting: Sequence[tuple[str, Tokens]]) -> Sequence[ClassText | Exception]:
        """One per name, given with its tokens."""
        if not fitting:
            return []
        names, tokens = zip(*fitting, strict=True)
        features, embedding = (np.split(part, len(names)) for part in self._encode(np.concatenate(tokens)))
        return [self._text(*of_name) for of_name in zip(names, features, embedding, strict=True)]

    def _text(self, name: str, features: FloatArray, embedding: FloatArray) -> ClassText | Exception:
        states = [mean_direction(features[: self._normal]), mean_direction(features[self._normal :])]
        text = ClassText(np.stack(states), mean_direction(embedding))
        if not (np.isfinite(text.states).all() and np.isfinite(text.embedding).all()):
            return GraphError(f"text: a vector of {name!r} is not finite")
        return text


def mean_direction(vectors: FloatArray) -> FloatArray:
    """The mean of vectors (P, E) of unit length, scaled to unit length: (E,)."""
    mean = vectors.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _tokenizer(bundle: Bundle, context_length: int) -> Tokenizer:
    """The bundle's tokenizer, for which a name that looks like a special token is plain text."""
    where = bundle.folder / TOKENIZER
    data = bundle.file_bytes(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # tokenizers raises bare Exception
        raise BundleError(f"{where}: {error}") from error
    for text in ("object", "object " * context_length):
        length = len(tokenizer.encode(text).ids)
        if length != context_length:
            raise BundleError(f"{where}: gives {length} tokens, the context length is {context_length}")
    tokenizer.encode_special_tokens = True
    return tokenizer

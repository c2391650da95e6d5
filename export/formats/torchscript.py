"""One part of a detector as a frozen TorchScript module."""

import re
import warnings
import zipfile
from io import BytesIO

import torch
from torch import Tensor

from export.formats.graph_file import GraphFile, part_spec
from export.graphs.part import Part

_NOTES = (".debug_pkl", "/serialization_id")
_MANGLED = re.compile(rb"[./]?___torch_mangle_\d+")
_TEXT = (".py", "data.pkl")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def export_torchscript(part: Part, examples: dict[str, Tensor]) -> GraphFile:
    """Trace a part on examples of its inputs and freeze it; the batch stays dynamic.

    The same part gives the same bytes, on any machine. Raises RuntimeError when it cannot be traced.
    """
    feeds = tuple(examples[name] for name in part.inputs)
    # Tracing is deprecated in favour of torch.export, whose files need Python code of the model to load.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module = torch.jit.freeze(torch.jit.trace(part.module.eval(), feeds))
        archive = BytesIO()
        torch.jit.save(module, archive)
    spec = part_spec(part, examples, "torchscript")
    return GraphFile(spec, {spec.path: _normalised(archive.getvalue())})


def _normalised(archive: bytes) -> bytes:
    """The same module without what depends on the process that wrote it.

    That are file names and line numbers of this machine, a number made from them, and the number that torch
    adds to the class when it has met one of that name before.
    """
    output = BytesIO()
    with zipfile.ZipFile(BytesIO(archive)) as old, zipfile.ZipFile(output, "w") as new:
        for entry in sorted(old.infolist(), key=lambda one: one.filename):
            name, data = entry.filename, old.read(entry)
            if name.endswith(_NOTES):
                continue
            if name.endswith(_TEXT):
                name, data = _without_number(name.encode()).decode(), _without_number(data)
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o600 << 16
            new.writestr(info, data)
    return output.getvalue()


def _without_number(text: bytes) -> bytes:
    return _MANGLED.sub(b"", text)

"""What OpenAPI cannot derive from the handlers: bodies in three forms, parameters, problems."""

from typing import Any

from service.errors import MEDIA_TYPE, Kind, ProblemAnswer
from service.schemas import DetectParameters

_PARAMETERS: dict[str, dict[str, Any]] = DetectParameters.model_json_schema()["properties"]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "array", "items": _BINARY["schema"]}


def _object(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    """An object of the parameters and one required field."""
    return {"schema": {"type": "object", "required": [field], "properties": {field: schema, **_PARAMETERS}}}


_QUERY = [{"name": name, "in": "query", "schema": schema} for name, schema in _PARAMETERS.items()]

DETECT_BODY: dict[str, Any] = {
    "parameters": _QUERY,
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": _object("file", _BINARY["schema"]),
            "application/json": _object("image", {"type": "string", "format": "byte"}),
        },
    },
}

DETECT_BATCH_BODY: dict[str, Any] = {
    "parameters": _QUERY,
    "requestBody": {"required": True, "content": {"multipart/form-data": _object("file", _FILES)}},
}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    kind.status: {
        "description": " / ".join(other.title for other in Kind if other.status == kind.status),
        "content": {MEDIA_TYPE: {"schema": ProblemAnswer.model_json_schema()}},
    }
    for kind in Kind
}

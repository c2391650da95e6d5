"""What OpenAPI cannot derive from the handlers: bodies in three forms, parameters, keys, problems."""

from collections.abc import Container
from typing import Any

from pydantic import BaseModel

from service.errors import MEDIA_TYPE, Kind, ProblemAnswer

Schema = dict[str, Any]

_BINARY: Schema = {"type": "string", "format": "binary"}
_BASE64: Schema = {"type": "string", "format": "byte", "minLength": 1}
_FILES: Schema = {"type": "array", "items": _BINARY, "minItems": 1}
_CLIENT_ID: Schema = {
    "name": "X-Client-ID",
    "in": "header",
    "description": "the camera that asks: each gets its share of the service",
    "schema": {"type": "string"},
}
_KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def picture_body(parameters: type[BaseModel]) -> Schema:
    """One picture, raw or in a form or in JSON, and parameters in the query or beside it."""
    contents = {
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": _object("file", _BINARY, _texts(parameters)),
        "application/json": _object("image", _BASE64, _properties(parameters)),
    }
    return _described(parameters, contents)


def pictures_body(parameters: type[BaseModel]) -> Schema:
    """Several pictures in a form, and parameters in the query or beside them."""
    contents = {"multipart/form-data": _object("file", _FILES, _texts(parameters))}
    return _described(parameters, contents)


def with_keys(schema: Schema, open_paths: Container[str]) -> Schema:
    """The description of the API with a key, in one header or another, on all but the open paths."""
    schema["components"]["securitySchemes"] = _KEYS
    for path, operations in schema["paths"].items():
        if path not in open_paths:
            for operation in operations.values():
                operation["security"] = [{name: []} for name in _KEYS]
    return schema


def _described(parameters: type[BaseModel], contents: Schema) -> Schema:
    body = {"required": True, "content": contents}
    return {"parameters": [*_query(parameters), _CLIENT_ID], "requestBody": body}


def _object(field: str, schema: Schema, parameters: Schema) -> Schema:
    """An object of the parameters and one required field."""
    properties = {field: schema, **parameters}
    shape = {"type": "object", "required": [field], "properties": properties, "additionalProperties": False}
    return {"schema": shape}


def _query(parameters: type[BaseModel]) -> list[Schema]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in _texts(parameters).items()]


def _texts(parameters: type[BaseModel]) -> Schema:
    """The parameters in a query or form."""
    return {name: _as_text(schema) for name, schema in _properties(parameters).items()}


def _as_text(schema: Schema) -> Schema:
    """Nothing is written as null; where several strings are taken, whatever is written is one of them."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    match kinds:
        case []:
            return schema
        case [kind]:
            return {**rest, **kind}
        case _:
            return rest


def _properties(parameters: type[BaseModel]) -> Schema:
    return parameters.model_json_schema()["properties"]


PROBLEMS: dict[int | str, dict[str, Any]] = {
    kind.status: {
        "description": " / ".join(other.title for other in Kind if other.status == kind.status),
        "content": {MEDIA_TYPE: {"schema": ProblemAnswer.model_json_schema()}},
    }
    for kind in Kind
}

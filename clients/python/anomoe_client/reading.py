"""JSON as frozen dataclasses, every type checked; fields that they do not know are passed over."""

import json
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")
_hints = cache(get_type_hints)


class ReadError(ValueError):
    """Not what was expected; the message names the field."""


def read_json(kind: type[Kind], content: bytes) -> Kind:
    """One dataclass of fields str, int, float, bool, list, dict by name, `X | None` or other dataclasses.

    Raises: ReadError.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"no JSON: {error}") from error
    return read(kind, value)


def read(kind: Any, value: Any, name: str = "") -> Any:
    """The value as what `kind` says; name: where it stands. Raises: ReadError."""
    container, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _object(kind, _expected(dict, value, name), name)
    if container is list:
        items = enumerate(_expected(list, value, name))
        return [read(inner[0], item, f"{name}[{place}]") for place, item in items]
    if container is dict:
        named = _expected(dict, value, name)
        return {key: read(inner[1], item, f"{name}.{key}") for key, item in named.items()}
    if inner:  # X | None
        return None if value is None else read(inner[0], value, name)
    if kind is float and type(value) is int:
        return float(value)
    return _expected(kind, value, name)


def _object(kind: Any, value: dict[str, Any], name: str) -> Any:
    given: dict[str, Any] = {}
    for field in fields(kind):
        place = f"{name}.{field.name}".lstrip(".")
        if field.name in value:
            given[field.name] = read(_hints(kind)[field.name], value[field.name], place)
        elif field.default is MISSING:
            raise ReadError(f"{place} is missing")
    return kind(**given)


def _expected(kind: type[Any], value: Any, name: str) -> Any:
    if type(value) is not kind:  # True is no int
        raise ReadError(f"{name or 'the answer'}: {kind.__name__} is expected, got {value!r:.60}")
    return value

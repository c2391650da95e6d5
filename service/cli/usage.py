"""Options checked by the types that they become; why a command ends."""

from collections.abc import Mapping
from typing import NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from service.settings import ENV_FILE, PREFIX, Settings, read_env_file

Checked = TypeVar("Checked", bound=BaseModel)


def fail(reason: str) -> NoReturn:
    """End the command with code 1 and a one-line reason."""
    typer.echo(f"anomoe: {' '.join(reason.split())}", err=True)
    raise typer.Exit(1)


def read_settings(options: Mapping[str, object]) -> Settings:
    """Settings from options, environment and `.env`; wrong usage ends the command with code 2."""
    try:
        read_env_file()
    except (OSError, ValueError) as error:
        fail(f"{ENV_FILE} cannot be read: {error}")
    return checked(Settings, **options)


def checked(kind: type[Checked], **values: object) -> Checked:
    """Settings or parameters from options; wrong usage ends the command with code 2."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise typer.BadParameter(first_complaint(error)) from error


def first_complaint(error: ValidationError) -> str:
    """The first wrong field, what is wrong and the value; what is wrong with several names them itself."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if not field:
        return first["msg"]
    variable = f" ({PREFIX}{field.upper()})" if error.title == Settings.__name__ else ""
    return f"{field}{variable}: {first['msg']}, got {first['input']!r}"

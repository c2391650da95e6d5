"""Settings of the service, read from `ANOMOE_*` environment variables and a `.env` file."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from time import time
from typing import Annotated, Literal

from dotenv.parser import parse_stream
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from export.contract.bundle import MANIFEST

PREFIX = "ANOMOE_"
ENV_FILE = Path(".env")
ENV_ENCODING = "utf-8-sig"  # with a byte order mark or without one
LIKENESS = 0.77  # of a name to a setting's, from which on it is one misspelt
MOST_CLASS_NAMES = 1000  # of one request, whatever the setting
MOST_THREADS = 1024  # a hundred thousand take a machine's memory before any signal is heard
MOST_PICTURES = 1024  # of one batch
LONGEST_S = 86_400
FOLDERS = TypeAdapter(list[Annotated[str, Field(min_length=1)]])
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+")


class Settings(BaseSettings):
    """Everything an operator can set; `ANOMOE_PORT=9000` sets `port`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding=ENV_ENCODING, extra="ignore", frozen=True
    )

    host: str = Field(default="127.0.0.1", pattern="^[!-~]+$", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on")
    bundles: str = Field(
        default="bundles", description="bundle folders, or folders of them, comma-separated or a JSON list"
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        default="auto", description="auto takes CUDA when it is there"
    )
    threads: int = Field(
        default=0, ge=0, le=MOST_THREADS, description="compute threads per graph, 0 takes every usable core"
    )
    max_batch: int = Field(default=8, ge=1, le=MOST_PICTURES, description="most pictures computed together")
    tune_s: float = Field(
        default=30.0, ge=0, le=LONGEST_S, description="seconds that anomoe tune measures each bundle"
    )
    state_dir: Path | None = Field(
        default=None, description="folder of what anomoe tune stores, by default the user's own"
    )
    host_threads: int = Field(
        default=0,
        ge=0,
        le=MOST_THREADS,
        description="threads to decode, encode, on CPU compute; as many for large pictures; 0 one a core",
    )
    queue_size: int = Field(default=64, ge=1, description="most requests admitted at once, others get 429")
    max_in_flight_bytes: int = Field(
        default=256 * 2**20, ge=1, description="most bytes of bodies admitted at once, others get 429"
    )
    deadline_ms: int = Field(
        default=0,
        ge=0,
        le=1000 * LONGEST_S,
        description="deadline without X-Deadline-Ms, then 504; 0 is none",
    )
    watchdog_s: float = Field(
        default=0,
        ge=0,
        le=LONGEST_S,
        description="age at which a running batch hangs, 0 goes by how long one takes",
    )
    drain_s: float = Field(
        default=30,
        ge=0,
        le=LONGEST_S,
        description="longest wait for what was accepted when the service is stopped",
    )
    header_timeout_s: float = Field(
        default=10,
        gt=0,
        le=LONGEST_S,
        description="longest wait for a request's headers, and for a client to take more of its answer",
    )
    body_timeout_s: float = Field(
        default=20, gt=0, le=LONGEST_S, description="longest wait for a request's body"
    )
    max_body_bytes: int = Field(default=32 * 2**20, ge=1, description="largest request body, in bytes")
    max_pixels: int = Field(default=100_000_000, ge=1, description="largest picture, in pixels")
    text_cache_size: int = Field(default=1024, ge=1, description="most class names whose text is kept")
    max_class_names: int = Field(
        default=16, ge=1, le=MOST_CLASS_NAMES, description="most class names of one request"
    )
    max_class_name_length: int = Field(default=100, ge=1, description="longest class name, in characters")
    api_keys_file: Path | None = Field(
        default=None, description="file of API keys (see anomoe key --help), without it none is asked for"
    )
    require_keys: bool = Field(default=False, description="whether a start without API keys is refused")
    metrics_need_key: bool = Field(default=False, description="whether /metrics asks for a key too")
    cors_origins: str = Field(
        default="", description="origins whose pages may call the service, comma-separated"
    )
    feedback_dir: Path | None = Field(
        default=None, description="folder of pictures that inspectors judge, without it none is kept"
    )
    feedback_bytes: int = Field(
        default=2**30, ge=1, description="most bytes of them, the oldest are removed first"
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*/?$",
        description="prefix of the paths behind a proxy, like /factory",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level logged"
    )

    drift_pictures: int = Field(
        default=100_000,
        ge=100,
        le=10**12,
        description="pictures of a product between two false drift alarms, in the mean at least",
    )
    drift_stride: int = Field(
        default=1,
        ge=1,
        le=10**6,
        description="look for drift in every so many-th picture: where neighbours are alike",
    )

    otel: bool = Field(
        default=False, description="send traces to OpenTelemetry (extra otel, OTEL_EXPORTER_OTLP_ENDPOINT)"
    )

    started_at: float = Field(
        default_factory=time, description="when the start began, Unix seconds; for the log line `ready`"
    )

    def bundle_folders(self) -> list[Path]:
        """Every bundle folder that `bundles` names, once, in order; a folder of bundles gives those in it.

        Raises: FileNotFoundError when an entry is neither a bundle nor holds one, or holds half of one;
        PermissionError.
        """
        folders = [folder for entry in _entries(self.bundles) for folder in _bundles_under(entry)]
        return list({folder.resolve(): folder for folder in folders}.values())

    def allowed_origins(self) -> list[str]:
        """The entries of `cors_origins`."""
        return _parts(self.cors_origins)

    @field_validator("bundles")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if not _entries(value):
            raise ValueError("a folder is expected")
        return value

    @field_validator("state_dir", "api_keys_file", "feedback_dir", mode="before")
    @classmethod
    def _is_a_path(cls, value: object) -> object:
        if value == "":  # would be the working folder
            raise ValueError("a path is expected")
        return value

    @field_validator("api_keys_file", "feedback_dir")
    @classmethod
    def _from_home(cls, value: Path | None) -> Path | None:
        try:
            return value and value.expanduser()
        except RuntimeError as error:  # as for a user of a container whom nobody knows
            raise ValueError("there is no such home") from error

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        wrong = [origin for origin in _parts(value) if not ORIGIN.fullmatch(origin)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no origin like https://example.com")
        return value

    @model_validator(mode="after")
    def _one_body_fits(self) -> "Settings":
        if self.max_in_flight_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_in_flight_bytes: {self.max_in_flight_bytes} holds no body of max_body_bytes, "
                f"{self.max_body_bytes}"
            )
        return self


def _parts(text: str) -> list[str]:
    """What is between commas and not empty."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _entries(bundles: str) -> list[Path]:
    """The whole where that is a folder, the strings of a JSON list, or what is between commas.

    Raises: ValueError for a list of anything else.
    """
    whole = _path(bundles)
    if bundles and os.path.isdir(whole):  # noqa: PTH112 (of pathlib's it would be an error that the whole is too long)
        return [whole]
    if not bundles.lstrip().startswith("["):
        return [_path(part) for part in _parts(bundles)]
    try:
        return [_path(folder) for folder in FOLDERS.validate_json(bundles)]
    except ValidationError:
        raise ValueError("a JSON list of folders is expected") from None


def _path(text: str) -> Path:
    """A path whose ~ means a home, where there is one."""
    with suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


def _bundles_under(entry: Path) -> list[Path]:
    if (entry / MANIFEST).is_file():
        return [entry]
    found, unfinished = _inside(entry, MANIFEST), _inside(entry, "graphs")
    if missing := sorted(unfinished - found):
        raise FileNotFoundError(f"bundles: no {MANIFEST} in {str(missing[0])!r}, which has graphs")
    if not found:
        raise FileNotFoundError(f"bundles: no {MANIFEST} in {str(entry)!r} or in a folder inside it")
    return sorted(found)


def _inside(entry: Path, name: str) -> set[Path]:
    """The folders inside that have something of this name; hidden ones are still being written.

    Raises: PermissionError for a folder that cannot be looked into, other than the one that ext4 makes.
    """
    inside = entry.iterdir() if entry.is_dir() else ()
    folders = (one for one in inside if not one.name.startswith(".") and one.name != "lost+found")
    return {one for one in folders if (one / name).exists()}


def read_env_file() -> str:
    """The text of `.env`, empty where there is none. Raises: OSError; ValueError where it is no text."""
    text = ENV_FILE.read_text(encoding=ENV_ENCODING) if ENV_FILE.is_file() else ""
    if "\0" in text:
        raise ValueError("it holds zero bytes")
    return text


def ineffective_settings() -> list[str]:
    """What in the environment and `.env` is like a setting and sets nothing, a sentence each.

    Raises: OSError or ValueError when `.env` cannot be read.
    """
    given = [_why_ineffective(name, "environment") for name in sorted(os.environ)]
    return [reason for reason in (*given, *_ineffective_lines()) if reason]


def _ineffective_lines() -> Iterator[str | None]:
    if os.path.lexists(ENV_FILE) and not ENV_FILE.is_file():
        yield f"{ENV_FILE} is no file, and sets nothing"
    bindings = list(parse_stream(StringIO(read_env_file())))
    last = {binding.key.upper(): binding.original.line for binding in bindings if binding.key}
    for binding in bindings:
        where = f"{ENV_FILE}, line {binding.original.line}"
        if binding.error:
            yield f"{where}: NAME=value is expected, this sets nothing"
        elif binding.key:
            flaw = "" if binding.value is not None else "has no value"
            if (line := last[binding.key.upper()]) != binding.original.line:
                flaw = f"is told again in line {line}"
            yield _why_ineffective(binding.key, where, flaw)


def _why_ineffective(name: str, where: str, flaw: str = "") -> str | None:
    """What is wrong with a name; None for a setting's without a flaw, or one that is like none."""
    known = [f"{PREFIX}{field.upper()}" for field in Settings.model_fields]
    if name.upper() in known:
        return f"{name} ({where}) {flaw}, and sets nothing" if flaw else None
    nearest = get_close_matches(name.upper(), known, 1, LIKENESS)
    if not nearest and not name.upper().startswith(PREFIX):
        return None
    return f"{name} ({where}) is no setting" + "".join(f", {other} may be meant" for other in nearest)


def describe_settings() -> str:
    """One line per setting: variable, default, meaning."""
    fields = Settings.model_fields.items()
    defaults = {name: "now" if field.default_factory else field.default for name, field in fields}
    return "\n".join(
        f"{PREFIX}{name.upper():<21} {defaults[name]!s:<10} {field.description}" for name, field in fields
    )

"""Settings of the service, read from `ANOMOE_*` environment variables and a `.env` file."""

import os
from pathlib import Path
from time import time
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from export.contract.bundle import MANIFEST

PREFIX = "ANOMOE_"
MOST_CLASS_NAMES = 1000  # of one request, whatever the setting
MOST_THREADS = 1024  # a hundred thousand take a machine's memory before any signal is heard
MOST_PICTURES = 1024  # of one batch
LONGEST_S = 86_400


class Settings(BaseSettings):
    """Everything an operator can set; `ANOMOE_PORT=9000` sets `port`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on")
    bundles: str = Field(default="bundles", description="bundle folders, or folders of them, comma-separated")
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
    metrics_need_key: bool = Field(default=False, description="whether /metrics asks for a key too")
    cors_origins: str = Field(
        default="", description="origins whose pages may call the service, comma-separated"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level logged"
    )

    started_at: float = Field(
        default_factory=time, description="when the start began, Unix seconds; for the log line `ready`"
    )

    def bundle_folders(self) -> list[Path]:
        """Every bundle folder that `bundles` names, once, in order; a folder of bundles gives those in it.

        Raises: FileNotFoundError when an entry is neither a bundle nor holds one, or holds half of one.
        """
        entries = (Path(entry.strip()) for entry in self.bundles.split(","))
        return list(dict.fromkeys(folder for entry in entries for folder in _bundles_under(entry)))

    def allowed_origins(self) -> list[str]:
        """The entries of `cors_origins`."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]

    @model_validator(mode="after")
    def _one_body_fits(self) -> "Settings":
        if self.max_in_flight_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_in_flight_bytes: {self.max_in_flight_bytes} holds no body of max_body_bytes, "
                f"{self.max_body_bytes}"
            )
        return self


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
    """The folders inside that have something of this name; hidden ones are still being written."""
    return {path.parent for path in entry.glob(f"*/{name}") if not path.parent.name.startswith(".")}


def unknown_variables() -> list[str]:
    """Variables of the environment that are named like a setting and are none."""
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    given = {name: name.upper() for name in os.environ}
    return sorted(name for name, upper in given.items() if upper.startswith(PREFIX) and upper not in names)


def describe_settings() -> str:
    """One line per setting: variable, default, meaning."""
    fields = Settings.model_fields.items()
    defaults = {name: "now" if field.default_factory else field.default for name, field in fields}
    return "\n".join(
        f"{PREFIX}{name.upper():<21} {defaults[name]!s:<10} {field.description}" for name, field in fields
    )

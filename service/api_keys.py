"""API keys: who may do what. The file of keys holds their hashes only."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import structlog

Role = Literal["infer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
HASH = re.compile(r"sha256:[0-9a-f]{64}")
KEY_PREFIX = "anomoe_"  # so that scanners of leaked secrets can know one
LIKE_A_KEY = re.compile(KEY_PREFIX + r"[A-Za-z0-9_-]{24,}")  # also when its end was lost

log = structlog.stdlib.get_logger("anomoe.api_keys")


class KeyFileError(ValueError):
    """A file of keys that cannot be used; the message names file and line, never a key."""


@dataclass(frozen=True)
class ApiKey:
    """One line of the file: whose key it is, what it may do, and its hash."""

    name: str
    role: Role
    hash: str

    def line(self) -> str:
        """As the file has it."""
        return f"{self.name} {self.role} {self.hash}"


def make_key(name: str, role: Role) -> tuple[str, ApiKey]:
    """A new random key of 256 bits, and what the file keeps of it.

    Raises: KeyFileError when the name is not 1 to 64 letters, digits, dots, dashes or underscores.
    """
    if not NAME.fullmatch(name):
        raise KeyFileError(f"name: 1 to 64 of A-Z a-z 0-9 . _ - are expected, got {name!r}")
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return key, ApiKey(name, role, hash_of(key))


def hash_of(key: str) -> str:
    """The hash the file keeps: one SHA-256, since nobody can guess 256 random bits however fast it is."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def add_key(path: Path, entry: ApiKey) -> None:
    """Append a key to a file, which nobody else may read if it is new. Raises: OSError, KeyFileError."""
    is_new = not path.exists()
    if not is_new:
        _entries(path)
    path.touch(mode=0o600)
    text = path.read_text(encoding="utf-8")
    separator = "" if is_new or text.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{separator}{entry.line()}\n")


def open_keys(path: Path | None, *, required: bool) -> "KeyRing | None":
    """The keys of a file; None without one. Raises: KeyFileError, also when one is required."""
    if path is None and required:
        raise KeyFileError("require_keys: keys are required, and api_keys_file is not set")
    return KeyRing(path) if path else None


class KeyRing:
    """The keys of a file, read again when it changes; a broken change leaves the keys as they were.

    Raises: KeyFileError when the file cannot be read or holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = self._broken = self._stat()
        self._keys = read_keys(path)

    def find(self, key: str) -> ApiKey | None:
        """The entry of a key; every entry is compared, in constant time."""
        self._refresh()
        wanted, found = hash_of(key), None
        for entry in self._keys:
            if hmac.compare_digest(entry.hash, wanted):
                found = entry
        return found

    def _refresh(self) -> None:
        state = self._stat()
        if state == self._read:
            return
        try:
            self._keys = read_keys(self._path)
        except KeyFileError as error:  # tried again by the next request: a key may have been withdrawn
            if state != self._broken:
                log.error("keys not read, the earlier ones stay", reason=str(error))
            self._broken = state
        else:
            self._read = state
            log.info("keys read", keys=len(self._keys))

    def _stat(self) -> tuple[int, ...]:
        try:
            stat = self._path.stat()
        except OSError:
            return ()
        return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file: lines `name role sha256:...`; empty ones and those after # do not count.

    Two lines may have one name, while its key is replaced. Raises: KeyFileError, also when there is none.
    """
    keys = _entries(path)
    if not keys:
        raise KeyFileError(f"api_keys_file: {str(path)!r} holds no key, so that nobody could ask")
    return keys


def _entries(path: Path) -> tuple[ApiKey, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"api_keys_file: {str(path)!r} cannot be read: {error}") from error
    return tuple(
        _parse(line, f"api_keys_file: {path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    )


def _parse(line: str, where: str) -> ApiKey:
    parts = line.split()
    if len(parts) != 3:
        raise KeyFileError(f"{where}: 'name role sha256:...' is expected, got {len(parts)} words")
    name, role, digest = parts
    if not NAME.fullmatch(name):
        raise KeyFileError(f"{where}: the name is not 1 to 64 of A-Z a-z 0-9 . _ -")
    if role not in ROLES:
        raise KeyFileError(f"{where}: the role of {name} is not one of {', '.join(ROLES)}")
    if not HASH.fullmatch(digest):
        raise KeyFileError(f"{where}: the hash of {name} is not sha256: and 64 hexadecimal digits")
    return ApiKey(name, role, digest)

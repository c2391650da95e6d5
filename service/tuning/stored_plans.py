"""Plans that `anomoe tune` has measured: a file for each bundle in the state folder."""

import hashlib
import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from export.contract.bundle import Bundle
from service.inference.backends.loading import runtime_of
from service.process import usable_cores
from service.settings import Settings
from service.tuning.plan import Plan

CPU_INFO = Path("/proc/cpuinfo")
GPUS = Path("/proc/driver/nvidia/gpus")
KIND = re.compile(r"^(?:model name|cpu family|model|stepping|Model)\s*:\s*.+$", re.MULTILINE)

log = structlog.stdlib.get_logger("anomoe.stored_plans")


class Conditions(BaseModel):
    """What a plan was measured under; elsewhere another one may be better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    graphs: str
    runtime: str
    processor: str
    cores: int
    device: str
    threads: int

    @classmethod
    def of(cls, bundle: Bundle, settings: Settings) -> "Conditions":
        """Those of a bundle in this process; cores as quota and affinity leave them."""
        return cls(
            graphs=digest_of_graphs(bundle),
            runtime=runtime_of(bundle),
            processor=processor(),
            cores=usable_cores(),
            device=settings.device,
            threads=settings.threads,
        )


class StoredPlan(BaseModel):
    """The content of a file."""

    model_config = ConfigDict(extra="forbid")

    conditions: Conditions
    plan: Plan


def digest_of_graphs(bundle: Bundle) -> str:
    """SHA-256 over the hashes of all graphs and their weights; a new calibration leaves it as it is."""
    graphs = bundle.manifest.graphs.values()
    paths = sorted({path for graph in graphs for path in (graph.path, *graph.external)})
    hashes = [bundle.manifest.files[path].sha256 for path in paths]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def state_folder(settings: Settings) -> Path:
    """The folder of the settings, else the user's own. Raises OSError where there is no user's folder."""
    try:
        given = settings.state_dir or Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "anomoe"
        return given.expanduser()
    except RuntimeError as error:
        raise OSError(f"state_dir: {error}") from error


def plan_file(bundle: Bundle, settings: Settings) -> Path:
    """Where the plan of a bundle is kept. Raises OSError as `state_folder`."""
    return state_folder(settings) / "plans" / f"{digest_of_graphs(bundle)}.json"


def read_plan(bundle: Bundle, settings: Settings) -> Plan | None:
    """The stored plan of a bundle; None where there is none, or, with a line in the log, none of use."""
    file = None
    try:
        file = plan_file(bundle, settings)
        return _read(file, Conditions.of(bundle, settings))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = ": ".join((".".join(map(str, first["loc"])) or "content", first["msg"]))
    except (OSError, ValueError) as error:
        reason = str(error)
    log.warning("stored plan ignored", bundle=str(bundle.folder), file=str(file), reason=reason)
    return None


def write_plan(bundle: Bundle, settings: Settings, plan: Plan) -> Path:
    """Store a plan as a whole or not at all; gives the file. Raises OSError."""
    file = plan_file(bundle, settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    stored = StoredPlan(conditions=Conditions.of(bundle, settings), plan=plan)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_text(stored.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def processor() -> str:
    """The kinds of processor and GPU, as far as the system tells them."""
    found: dict[str, None] = {}
    for file in (CPU_INFO, *sorted(GPUS.glob("*/information"))):
        with suppress(OSError):
            found |= dict.fromkeys(KIND.findall(file.read_text(errors="replace")))
    return ", ".join(re.sub(r"\s*:\s*", " ", line) for line in found) or platform.machine()


def _read(file: Path, present: Conditions) -> Plan:
    """Raises OSError or ValueError for what is no plan for the present conditions."""
    if not S_ISREG(file.stat().st_mode):
        raise OSError("it is no file")
    stored = StoredPlan.model_validate_json(file.read_bytes(), strict=True)
    before, now = stored.conditions.model_dump(), present.model_dump()
    if differing := [
        f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]
    ]:
        raise ValueError("; ".join(differing))
    return stored.plan

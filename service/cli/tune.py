"""What `anomoe tune` does with each bundle: measure, store, print."""

import tempfile

import typer
from rich.console import Console

from export.contract.bundle import Bundle
from service.logging import configure_logging
from service.models.loading import measure_bundle
from service.settings import Settings
from service.tuning.stored_plans import state_folder, write_plan


def tune_bundles(settings: Settings) -> None:
    """Measure the bundles of the settings one after the other; what is measured is stored at once.

    Raises: BundleError or GraphError for a bad bundle; OSError without any, or a folder to write to.
    """
    configure_logging(settings.log_level)
    folder = state_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # not only after all the measuring
    bundles = [Bundle.read(one) for one in settings.bundle_folders()]
    for bundle in bundles:
        name = bundle.manifest.name
        with Console(stderr=True).status(f"{name}: measuring for {settings.tune_s:.0f} s or a little more"):
            plan = measure_bundle(bundle, settings)
        file = write_plan(bundle, settings, plan)
        typer.echo(
            f"{name}: {plan.parallel} at once of {plan.batch} on {plan.threads_at_once} threads, alone on "
            f"{plan.threads}; kept in {file}"
        )

"""The command as tests call it."""

from typer.testing import CliRunner, Result

from service.cli.commands import app

runner = CliRunner()


def ask(*arguments: object, stdin: bytes | None = None) -> Result:
    return runner.invoke(app, ["detect", *map(str, arguments)], input=stdin)


def last_line(result: Result) -> str:
    """Why the command ended with code 1."""
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    return result.stderr.splitlines()[-1]

"""The training command as tests call it."""

from typer.testing import CliRunner, Result

runner = CliRunner()


def reason(result: Result) -> str:
    """The last line on the error stream of a command that failed with exit code 1."""
    assert result.exit_code == 1, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("anomoe-train: ")
    assert "Traceback" not in result.stderr
    return last

"""`python -m service.cli`."""

from service.cli.commands import app

if __name__ == "__main__":
    app()

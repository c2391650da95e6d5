"""`python -m training.cli`."""

from training.cli.main import app

if __name__ == "__main__":
    app()

"""`python -m trioworker`, and the console script."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from trioworker._cli import MissingExtra

    try:
        from trioworker._cli._app import main as run
    except MissingExtra as exc:
        print(exc, file=sys.stderr)
        sys.exit(2)
    sys.exit(run())


if __name__ == "__main__":
    main()

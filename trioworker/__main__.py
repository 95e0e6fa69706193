"""`python -m trioworker`, and the console script."""

import sys

EXTRA = {"cyclopts", "rich"}
"""Without these there is no command line; cyclopts imports rich only when it prints."""


def main() -> None:
    """Run the command line and exit with its status; without the extra, say how to get it."""
    from trioworker._cli import MissingExtra

    try:
        from trioworker._cli._app import main as run

        sys.exit(run())
    except KeyboardInterrupt:
        sys.exit(130)  # while it was being imported; from then on it sees to that itself
    except MissingExtra as exc:
        missing = exc
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        missing = MissingExtra(package)
    print(missing, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()

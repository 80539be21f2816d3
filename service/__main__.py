"""The command `tailprune`, which Ctrl-C also ends without a traceback while its modules are imported."""

import sys

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """Run the command that the arguments of the process name."""
    try:
        from service.cli import app

        app(prog_name="tailprune")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()

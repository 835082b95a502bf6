"""The command `npd`, also as `python -m services`."""

import sys


def main() -> None:
    """Run the command line. `serve ROOM` goes a way of its own, on which no command line is loaded."""
    match sys.argv[1:]:
        case ["serve", room] if not room.startswith("-"):
            from services.cli.serving import serve

            sys.exit(serve(room))
        case _:
            from services.cli.commands import app

            app()


if __name__ == "__main__":
    main()

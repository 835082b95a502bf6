"""How commands describe themselves: help with examples, and options that several of them share."""

import argparse
from collections.abc import Callable
from pathlib import Path

Commands = argparse._SubParsersAction  # what add_subparsers returns has no public name


def command(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    about: str,
    examples: str,
    act: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    """One command: `about` is a sentence, `examples` stands below its options."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=about, description=about, epilog=examples, formatter_class=layout)
    parser.set_defaults(command=act)
    return parser


def passphrase_option(parser: argparse.ArgumentParser, purpose: str) -> None:
    """The option that names a file with a passphrase; without it whoever sits at the terminal is asked."""
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help=f"a file of mode 0600 with the passphrase, {purpose}; you are asked otherwise",
    )

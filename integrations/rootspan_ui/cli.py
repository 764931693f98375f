"""The command `rootspan`: tail, check, demo and spool."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import rootspan
from rootspan_ui.check import check
from rootspan_ui.demo import demo
from rootspan_ui.spooled import purge, replay, status
from rootspan_ui.terminal import Screen, tail

__all__ = ["main"]

_INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; that of this process by default.

    Returns:
        The exit status: 0 for success, 1 for failure, 2 for a mistake in the command or the configuration.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (none was given, and this one stays open)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115  (likewise; `print` would take stdout for it)
    try:
        if options.command == "tail":
            return tail(options.host, options.port, options.token, options.json)
        if options.command == "check":
            return check(options.endpoint, options.api_key)
        if options.command == "demo":
            return demo(once=options.once)
        if options.command == "spool":
            return _spool(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # `rootspan spool status | head` needs no words
            print(f"rootspan {options.command}: {error}", file=sys.stderr)
        Screen(sys.stdout).silence()
        return 1
    parser.print_help(sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """Takes options as they are written: `--y` deletes nothing. A command does not inherit that from its parent."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rootspan",
        description="Tracking for AI products on OpenTelemetry: see what arrives, and find out what is wrong.",
    )
    parser.add_argument("--version", action="version", version=f"rootspan {rootspan.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_tail(commands.add_parser("tail", help="receive traces here and print each finished one as a tree"))
    _add_check(commands.add_parser("check", help="send one test event and say what happened"))
    demo_parser = commands.add_parser("demo", help="run example apps and their users, and show what arrives")
    demo_parser.description = (
        "Run example apps against a local receiver, talk to them over HTTP, and show what arrives."
    )
    demo_parser.add_argument("--once", action="store_true", help="end after the conversations; exit 0 if all arrived")
    _add_spool(commands.add_parser("spool", help="show, send or delete what ended processes left on the disk"))
    return parser


def _spool(options: argparse.Namespace) -> int:
    if options.action == "replay":
        return replay(options.directory, options.endpoint, options.api_key, options.patience)
    return purge(options.directory, options.yes) if options.action == "purge" else status(options.directory)


def seconds(text: str) -> float:
    """Read a number that can be waited for; argparse says this function's name where it is none."""
    number = float(text)
    if not number >= 0:  # also nan
        raise ValueError
    return number


def _add_spool(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show, send or delete what ended processes left in a spool directory."
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status_parser = actions.add_parser("status", help="say what the directory holds, and for whom")
    replay_parser = actions.add_parser("replay", help="send what ended processes left, and say how far it is")
    replay_parser.epilog = "exit status: 0 nothing is left, 1 something is, 2 wrong configuration, or no such directory"
    _add_endpoint(replay_parser)
    replay_parser.add_argument(
        "--patience",
        type=seconds,
        default=60.0,
        help="seconds without progress before it gives up (default: %(default)s)",
    )
    purge_parser = actions.add_parser("purge", help="delete what ended processes left, without sending it")
    purge_parser.add_argument("--yes", action="store_true", help="do not ask")
    for action in (status_parser, replay_parser, purge_parser):
        action.add_argument("--directory", help="use this in place of ROOTSPAN_SPOOL")


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.description = "Receive OTLP/HTTP (protobuf and JSON, gzip) and print each finished trace as a tree."
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4318, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--token", help="what senders have to show; needed where others can reach the address")
    parser.add_argument("--json", action="store_true", help="one JSON object for each span and line")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.description = "Send one test event with the configuration in the environment, and say what happened."
    parser.epilog = "exit status: 0 accepted, 1 not accepted, 2 the configuration is wrong"
    _add_endpoint(parser)


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", help="use this in place of ROOTSPAN_ENDPOINT")
    safer = "the variable is safer: it shows in no process list"
    parser.add_argument("--api-key", help=f"use this in place of ROOTSPAN_API_KEY; {safer}")


if __name__ == "__main__":
    sys.exit(main())

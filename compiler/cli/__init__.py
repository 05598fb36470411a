"""The command line: one file a command, and only the file of the command at hand is imported."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, NoReturn

import typer

from ...runtime.errors import RelaxcError

# Command -> the module in this package and the function in it; a typer.Typer there has commands of its own.
_COMMANDS = {
    "compile": ("compile", "compile_model"),
    "run": ("run", "run"),
    "bench": ("bench", "bench"),
    "inspect": ("inspect", "inspect_file"),
    "targets": ("targets", "targets"),
    "verify": ("verify", "verify"),
    "rpc": ("rpc", "rpc"),
    "demo": ("demo", "demo"),
    "tune": ("tune", "tune"),
    "records": ("records", "records"),
}


# What a shell reports of a process that ctrl-C ended: 128 + SIGINT.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command line and exits: 0 for success, 1 for a user's error, 2 for wrong usage."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        application(_wanted(arguments))(arguments, prog_name="relaxc")
    except RelaxcError as error:
        _fail(f"error: {error}", arguments)
    except BrokenPipeError:
        # Whoever read our output has gone (a closed pager, "| head"); there is nobody left to tell.
        sys.stderr.close()
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {error}"
        _fail(f"{text} (run with --verbose for the traceback)", arguments)
    raise SystemExit(0)


def application(commands: Iterable[str] = tuple(_COMMANDS)) -> typer.Typer:
    """The application with some of its commands."""
    app = typer.Typer(
        help="Compiles trained models into fast, self-contained shared libraries.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options_of_all_commands)
    for command in commands:
        module, function = _COMMANDS[command]
        _add(app, command, getattr(importlib.import_module(f".{module}", __name__), function))
    return app


def _add(app: typer.Typer, command: str, function: Callable[..., None] | typer.Typer) -> None:
    if isinstance(function, typer.Typer):
        app.add_typer(function, name=command)
    else:
        app.command(command)(function)


def _wanted(arguments: Sequence[str]) -> Iterable[str]:
    """The command that is called, or all of them where the command line names none (``--help``)."""
    named = [argument for argument in arguments if not argument.startswith("-")][:1]
    return named if named and named[0] in _COMMANDS else _COMMANDS


def _options_of_all_commands(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    # main() reads --verbose itself: errors reach it from before and after the parsing, too.
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"relaxc {version_of('relaxc')}")
        raise typer.Exit


def _fail(message: str, arguments: Sequence[str]) -> NoReturn:
    if "--verbose" in arguments:
        traceback.print_exc()
    print(" ".join(message.split()), file=sys.stderr)
    raise SystemExit(1)

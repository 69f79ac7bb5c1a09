"""`edgeward VERB …`: finds the verb's file, runs it, and tells an error once, in one sentence."""

import importlib
import io
import os
import sys
from typing import NoReturn

import click

from edgeward import __version__
from edgeward.kit.errors import EdgewardError, from_os_error

VERBS = {
    "probe": "What this machine is and can do.",
    "doctor": "What is wrong with a machine, and the command that mends it.",
    "init": "Ask a few questions, and write edgeward.toml.",
    "show": "A model or bundle: inputs, outputs, operators, measurements, signatures.",
    "optimize": "Make a model fit this machine, under an accuracy gate.",
    "prune": "Make a classifier smaller in shape, and train it again.",
    "qat": "Train a model to keep its answers when it is quantised.",
    "distill": "Train a small network to stand in a larger one's place.",
    "evaluate": "The task metric of a model or bundle on a data set.",
    "bench": "Latency, throughput, memory; or two models compared.",
    "profile": "Where a model's time goes, where it runs, and why it is not faster.",
    "pack": "Make a bundle of a model and what belongs to it.",
    "join": "Make one of several variants of a bundle, and say which fits a device.",
    "sign": "Sign a bundle with your key.",
    "verify": "Check a bundle: every byte, and who signed it.",
    "push": "Take a bundle to a registry.",
    "pull": "Bring a bundle from a registry, a folder or a stick.",
    "copy": "Take a bundle from one registry, folder or stick to another.",
    "run": "Answer files with a verified bundle.",
    "serve": "Answer requests over HTTP (Open Inference Protocol v2).",
    "deploy": "Install a bundle as a service of this machine, or of another.",
    "rollback": "Let a service run the bundle before this one again.",
    "status": "The services of a machine: which bundle, since when, what each says.",
    "logs": "What a service said.",
    "export": "Write a bundle as an image, a package, or the files that start it elsewhere.",
    "top": "What a machine and its services do, live.",
    "trace": "Why some inferences were late: what the kernel saw of them.",
    "demo": "The whole line on this machine, on real handwritten digits.",
}
"""Each verb is the file of that name in this folder, with a click command named `command`."""


class Verbs(click.Group):
    """Loads a verb's file only when that verb is called, so that `edgeward run` starts fast."""

    def list_commands(self, context: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"edgeward.cli.{name}").command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], VERBS, n=1)
            ending = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no verb {args[0]!r}{ending}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings={
        "help_option_names": ["-h", "--help"], "max_content_width": 110, "auto_envvar_prefix": "EDGEWARD",
    },
)  # fmt: skip
@click.version_option(__version__, prog_name="edgeward")
@click.pass_context
def edgeward(context: click.Context) -> None:
    """Carries a trained model to Linux devices at the edge, and guards it there."""
    verb = context.invoked_subcommand
    if verb in VERBS and verb != "init" and os.path.isfile("edgeward.toml"):  # noqa: PTH113 - pathlib is not needed yet
        from pathlib import Path

        from edgeward.cli import configuration

        command = edgeward.get_command(context, verb)
        if command is not None:
            context.default_map = {verb: configuration.defaults(Path(configuration.NAME), verb, command, VERBS)}


def process() -> NoReturn:
    """`main` as a process of its own: it ends without taking its modules apart, which would cost a short command
    as much as a small model."""
    try:
        main()
    except SystemExit as done:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(done.code if isinstance(done.code, int) else 0)


def main() -> NoReturn:
    """The process `edgeward`: exit code 0 done, 1 failed, 2 wrong input, 3 gate missed, 4 not supported here,
    5 not reachable now, 6 refused; 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows "?" for "×" instead of an error
    try:
        sys.exit(edgeward.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        _tell(error.format_message(), _usage_hint(error))
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        _tell("stopped; nothing half-written was left behind", None)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except EdgewardError as error:
        _tell(error.message, error.hint)
        sys.exit(error.exit_code)
    except OSError as error:
        known = from_os_error(error)
        _debug()
        _tell(known.message, known.hint)
        sys.exit(known.exit_code)
    except MemoryError:
        _tell("not enough memory", "free -h")
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the one broad catch of this process: a person gets a sentence
        _debug()
        _tell(
            f"this is a mistake in edgeward itself: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            "EDGEWARD_DEBUG=1 shows where; please report it with that",
        )
        sys.exit(1)


def _usage_hint(error: click.ClickException) -> str | None:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context else None


def _debug() -> None:
    if os.environ.get("EDGEWARD_DEBUG"):
        import traceback

        traceback.print_exc()


def _tell(message: str, hint: str | None) -> None:
    sys.stderr.write(f"edgeward: {message}\n" + (f"  try: {hint}\n" if hint else ""))

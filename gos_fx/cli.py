"""The command ``gos-fx``: arguments in, a table or JSON out."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gos_fx import config, verbs, verbs_board, verbs_emulate, verbs_show, verbs_tuning
from gos_fx.errors import GosError
from gos_fx.tables import console

REFUSED, INTERRUPTED = 2, 130

_MODEL = """\
MODEL is FILE.py:NAME or package.module:NAME of a torch module, or of a class or
function that gives one when called without arguments (this runs that code), or the
directory of a run that `optimize --run-dir` saved (this runs no code). It is put in
eval mode."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments behind the name of the program; those of the process if None.

    Returns:
        0; 1 where a check failed; 2 where the input was refused, with one message on
        stderr; 130 after Ctrl-C.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else REFUSED
    try:
        # what the user's code or a library prints must not mix with the result
        with contextlib.redirect_stdout(sys.stderr):
            outcome: verbs.Outcome = arguments.verb(arguments)
        if arguments.json:
            print(json.dumps(_finite(outcome.found), indent=1))
        else:
            outcome.show(console(sys.stdout), outcome.found)
        sys.stdout.flush()
        return outcome.status
    except GosError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("gos-fx: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads has enough; Python would flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return verbs.FAILED


def _refuse(error: GosError) -> int:
    try:
        if config.debug_level():
            raise error
    except GosError as again:
        if again is error:
            raise
        error = again  # GOS_FX_DEBUG itself is wrong
    where = f" ({error.where})" if error.where else ""
    print(f"gos-fx: {error.what.rstrip('.')}{where}", file=sys.stderr)
    if error.do:
        print(f"  {error.do}", file=sys.stderr)
    return REFUSED


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gos-fx",
        description="A trained PyTorch network in, a faster one for an ARM board out.",
        epilog=_MODEL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _verb(commands, "targets", verbs.targets)
    one = _verb(commands, "profile", verbs.profile)
    _model_options(one, "host")
    _source_option(one, "--source", "analytical", "")
    one = _verb(commands, "show", verbs_show.show)
    _network_options(one)
    verbs_show.add_options(one)
    _optimize_options(_verb(commands, "optimize", verbs.optimize))
    _tune_options(_verb(commands, "tune", verbs_tuning.tune))
    one = _verb(commands, "compile", verbs.compile)
    _model_options(one, "host")
    one.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="gets the package"
    )
    _run_options(_verb(commands, "run", verbs.run))
    verbs_emulate.add_commands(commands)
    verbs_board.add_commands(commands)
    return parser


def _verb(commands: Any, name: str, function: Callable[..., Any]) -> Any:
    text = (function.__doc__ or "").strip()
    parser = commands.add_parser(
        name,
        help=text[0].lower() + text[1:].rstrip("."),
        description=text,
        epilog="" if name == "targets" else _MODEL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, and only that"
    )
    parser.set_defaults(verb=function)
    return parser


def _model_options(parser: Any, target: str | None) -> None:
    _network_options(parser)
    parser.add_argument(
        "--target",
        metavar="NAME",
        required=target is None,
        default=target,
        help="see gos-fx targets" + (f" (default: {target})" if target else ""),
    )
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="of the target; default: all"
    )


def _network_options(parser: Any) -> None:
    parser.add_argument("model", metavar="MODEL")
    _weights_option(parser)
    parser.add_argument(
        "--input",
        metavar="SHAPE",
        action="append",
        default=[],
        help="shape of an input, 1,3,224,224 (float32), or a file.npy; one for each",
    )


def _source_option(parser: Any, flag: str, default: str, more: str) -> None:
    parser.add_argument(
        flag,
        metavar="NAME",
        default=default,
        help="where latencies come from: analytical, emulator, board or host"
        f"{more} (default: {default})",
    )


def _weights_option(parser: Any) -> None:
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="state_dict as .safetensors, or a .pt that loads without running code",
    )


def _optimize_options(parser: Any) -> None:
    _model_options(parser, None)
    add = parser.add_argument
    add(
        "--data",
        metavar="FILE.py:NAME",
        help="gives (train_data, eval_data), or a dict with these, loss, metric or "
        "metric_mode; without, fidelity to the original takes the place of accuracy",
    )
    for name, kind, default, text in (
        ("epsilon", float, 0.01, "allowed loss of the metric, absolute"),
        ("iterations", _positive, 50, "generations for each replacement"),
        ("population", _positive, 12, "candidates in a generation"),
        ("max-replacements", _positive, 10, "at most so many operators"),
        ("time-budget", float, None, "seconds for the search"),
        ("seed", int, 0, "of every random choice"),
    ):
        add(
            f"--{name}",
            type=kind,
            default=default,
            metavar="N",
            help=f"{text} (default: {default})",
        )
    add(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="modules to replace, by name or pattern (layer4.*); may be repeated",
    )
    add(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME",
        help="modules to leave alone; may be repeated",
    )
    add(
        "--constraint",
        action="append",
        default=[],
        metavar="NAME=LIMIT",
        help="latency=SECONDS, parameters=N, memory=BYTES or energy=JOULES; may be "
        "repeated",
    )
    add(
        "--objectives",
        metavar="NAMES",
        default="latency,parameters",
        help="what is minimised, also memory and energy (default: latency,parameters)",
    )
    _source_option(parser, "--latency-source", "auto", ", or the best of them")
    add("--run-dir", metavar="DIR", help="gets the network and its report")


def _tune_options(parser: Any) -> None:
    _model_options(parser, None)
    for name, kind, default, text in (
        ("time-budget", float, None, "seconds for all kernels"),
        ("trials", _positive, 32, "candidates for each kernel"),
        ("seed", int, 0, "of every random choice"),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar="N",
            help=f"{text} (default: {default})",
        )
    _source_option(parser, "--latency-source", "auto", ", or the best of them")


def _run_options(parser: Any) -> None:
    parser.add_argument("package", metavar="PACKAGE", help="directory of a package")
    parser.add_argument(
        "--input",
        metavar="FILE.npy",
        action="append",
        default=[],
        help="one for each input; without any, normal numbers",
    )
    parser.add_argument(
        "--output",
        metavar="FILE.npy",
        action="append",
        default=[],
        help="gets an output; the first names the first one",
    )
    parser.add_argument(
        "--check",
        metavar="MODEL",
        help="also run it in PyTorch; exit status 1 if they do not agree",
    )
    _weights_option(parser)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _version() -> str:
    import gos_fx

    return f"gos-fx {gos_fx.__version__}"


if __name__ == "__main__":
    sys.exit(main())

"""A verb and its words -> the function and its arguments. Every flag comes from a signature, none is written here."""

from __future__ import annotations

import inspect
from argparse import SUPPRESS, ArgumentError
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace

from matcher.cli.allowed import guard_imports
from matcher.cli.refusals import one_sentence
from matcher.cli.verbs import POSITIONAL, READS, STRATEGY, load
from matcher.cli.words import config_file, config_files, plain_words
from matcher.errors import UsageError

T = TypeVar("T")
SPREAD = "job"  # this parameter's fields are flags of their own: --workers, not --job.workers
DEFAULT = "run/full.yaml"  # the strategy where no --config says otherwise
EPILOG = "Names may be written with dashes too (--on-error). Of several --config files and flags, the last one on the line wins."
HELP = {"-h", "--help"}
WITHOUT = f" Without --config, {DEFAULT} is taken."
NO_OTHER = " No other part of the strategy matters to this verb."


@dataclass(frozen=True)
class Manner:
    """How the result is shown.

    Args:
        json: print the result as JSON
        quiet: log warnings and errors only
    """

    json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Call:
    """What a command line asks for."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    manner: Manner


class VerbParser(ArgumentParser):
    """A parser whose printed config holds what the verb takes, not how its result is shown."""

    def dump(self, namespace: Namespace, *args: Any, **kwargs: Any) -> str:
        shown = namespace.clone()
        for field in fields(Manner):
            shown.pop(field.name, None)
        return super().dump(shown, *args, **kwargs)


def parse(verb: str, words: Sequence[str]) -> Call:
    """A verb of the table and the words after it -> the call. UsageError with one sentence if they do not fit.

    ``--help`` and ``--print_config`` print to stdout and raise SystemExit(0).
    """
    function = load(verb)
    spread = spread_class(function)
    guard_imports()
    parser = build_parser(verb, function, spread)
    words = plain_words(words, switches(parser))
    if follows_strategy(function) and not config_files(words) and not HELP.intersection(words):
        words = ["--config", config_file(DEFAULT), *words]
    if not HELP.intersection(words):
        from matcher.cli.written import refuse_faults

        refuse_faults(function, [spread, Manner], words)
    try:
        given = parser.instantiate(parser.parse_args(words))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UsageError(one_sentence(str(error), function, [spread, Manner], words)) from error
    arguments = {name: value for name, value in vars(given).items() if name != "config"}
    manner = gather(Manner, arguments)
    if spread:
        arguments[SPREAD] = gather(spread, arguments)
    return Call(function, arguments, manner)


def build_parser(verb: str, function: Callable[..., Any], spread: type | None) -> VerbParser:
    epilog = EPILOG + (WITHOUT if follows_strategy(function) else "") + (NO_OTHER if verb in READS else "")
    parser = VerbParser(prog=f"matcher {verb}", epilog=epilog, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file; may be given several times")
    parser.add_function_arguments(function, as_positional=verb in POSITIONAL, skip={SPREAD})
    for flags in filter(None, (spread, Manner)):
        parser.add_class_arguments(flags, instantiate=False)
    if verb in READS:
        hide_unread(parser, READS[verb])
    return parser


def hide_unread(parser: ArgumentParser, parts: Collection[str]) -> None:
    """Leaves the parts of the strategy that the verb does not look at out of its help. They may be given: configs hold all parts."""
    for group in parser._action_groups:
        members = [action for action in group._group_actions if action.dest.startswith(f"{STRATEGY}.")]
        for action in members:
            if action.dest.split(".")[1] not in parts:
                action.help = SUPPRESS
        if members and all(action.help == SUPPRESS for action in group._group_actions):
            group.title = group.description = None


def follows_strategy(function: Callable[..., Any]) -> bool:
    return STRATEGY in inspect.signature(function).parameters


def spread_class(function: Callable[..., Any]) -> type | None:
    parameter = inspect.signature(function).parameters.get(SPREAD)
    return type(parameter.default) if parameter else None


def switches(parser: ArgumentParser) -> set[str]:
    """Names of the options that are yes or no; their value is shown as optional in the help."""
    found = [action for action in parser._actions if getattr(action, "_typehint", None) is bool]
    for action in found:
        action.nargs = "?"
    return {action.dest for action in found}


def gather(cls: type[T], arguments: dict[str, Any]) -> T:
    """Takes the fields of a dataclass out of the arguments, and makes it."""
    return cls(**{field.name: arguments.pop(field.name) for field in fields(cls)})  # type: ignore[arg-type]

"""The words of a command line in, an exit code out: 0 done, 1 error, 2 usage, 130 interrupted.

Data goes to stdout, logs and errors to stderr. With MATCHER_DEBUG=1 an error shows its traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from difflib import get_close_matches

from matcher import __version__
from matcher.cli.verbs import TRAINING, VERBS, one_line
from matcher.errors import MatcherError, UsageError

INTERRUPTED = "interrupted; what was finished is kept, and the same command{} goes on from there"


def main(words: Sequence[str] | None = None) -> int:
    """The words after ``matcher`` (default: this process's) -> the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    words[:1] = [word.replace("-", "_") if not word.startswith("-") else word for word in words[:1]]  # fit-fusion is fit_fusion
    open_streams()
    try:
        text, code = answer(words)
        say(text)
    except KeyboardInterrupt:
        again = " without --fresh" if any(word.startswith("--fresh") for word in words) else ""
        return complain(INTERRUPTED.format(again), 130)
    except UsageError as error:
        verb = f"{words[0].replace('_', '-')} " if words and words[0] in (*VERBS, *TRAINING) else ""
        return complain(f"error: {error} (see matcher {verb}--help)", 2)
    except (MatcherError, OSError) as error:
        return complain(" ".join([f"error: {error}", *getattr(error, "__notes__", ())]), 1)
    except Exception as error:
        return complain(f"error: {type(error).__name__}: {error} (unexpected; MATCHER_DEBUG=1 shows where)", 1)
    return code


def open_streams() -> None:
    """A stream that was closed before we began (`>&-`, some daemons) is None: then it leads nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def answer(words: Sequence[str]) -> tuple[str, int]:
    """Does what the words ask for; what is to be printed and the exit code."""
    if not words:
        print(overview(), file=sys.stderr)
        return "", 2
    verb, *rest = words
    if verb in ("-h", "--help"):
        return (overview(), 0) if not rest else answer([*rest, "--help"])
    if verb == "--version":
        return f"matcher {__version__}", 0
    if verb in VERBS:
        return do(verb, rest)
    if verb in TRAINING:
        return train(verb, rest)
    if verb.startswith("-"):
        raise UsageError(f"the verb comes first: matcher VERB {verb} ...")
    close = [name.replace("_", "-") for name in get_close_matches(verb, (*VERBS, *TRAINING), n=1)]
    raise UsageError(f"there is no verb {verb.replace('_', '-')}" + (f"; did you mean {close[0]}?" if close else ""))


def do(verb: str, words: Sequence[str]) -> tuple[str, int]:
    """Calls the verb; its result as text, and the result's own exit code if it has one."""
    from matcher.cli.parser import parse
    from matcher.cli.show import as_text

    try:
        call = parse(verb, words)
    except SystemExit as done:  # --help and --print_config have printed
        return "", int(done.code or 0)
    log_to_stderr(logging.WARNING if call.manner.quiet else logging.INFO)
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with a picture is said in errors.parquet
    result = call.function(**call.arguments)
    return as_text(result, as_json=call.manner.json), int(getattr(result, "exit_code", 0))


def train(verb: str, words: Sequence[str]) -> tuple[str, int]:
    """Hands the words to Lightning's command line."""
    from matcher.cli import training

    log_to_stderr(logging.INFO)
    return "", training.train(verb, words)


def overview() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb.replace('_', '-'):<{width}}{one_line(verb)}" for verb in VERBS]
    trainings = f"To train: matcher {'|'.join(TRAINING)} --config FILE (these take seconds to start)."
    return "\n".join(
        ["usage: matcher VERB [options]", "", *lines, "", trainings, "matcher VERB --help lists its options; matcher --version."]
    )


def log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("matcher")
    logger.handlers[:] = [handler]
    logger.setLevel(level)


def complain(sentence: str, code: int) -> int:
    """Prints one line to stderr, and the traceback of the error being handled if MATCHER_DEBUG asks for it."""
    if os.environ.get("MATCHER_DEBUG", "") not in ("", "0"):
        traceback.print_exc()
    print(f"matcher: {' '.join(sentence.split())}", file=sys.stderr, flush=True)
    return code


def say(text: str) -> None:
    """Prints to stdout; silent if the reader of our output left, as `head` does. MatcherError if it cannot be written."""
    try:
        if text:
            print(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
        if not isinstance(error, BrokenPipeError):
            raise MatcherError(f"what was done is kept, but stdout cannot be written: {error.strerror or error}") from error

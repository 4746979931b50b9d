"""A function -> a script: flags from its signature, what it says on stderr, and an exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentError, auto_cli

from matcher.errors import MatcherError, UsageError

logger = logging.getLogger(__name__)


def run_script(function: Callable[..., Any]) -> int:
    """The words of the command line -> exit code: 0 done, 1 error, 2 usage."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        auto_cli(function, as_positional=False, exit_on_error=False)
    except (UsageError, ArgumentError) as error:
        logger.error("error: %s (see --help)", " ".join(str(error).split()))
        return 2
    except MatcherError as error:
        logger.error("error: %s", error)
        return 1
    return 0

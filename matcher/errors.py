"""The errors that people are meant to read: one clear line that says what, where and what to do."""

from __future__ import annotations


class MatcherError(Exception):
    """Something that the user can mend; the command line prints the sentence without a traceback and exits with 1."""


class UsageError(MatcherError):
    """A command or config that cannot be right whatever the files hold; exits with 2."""


PASSING = ("missing", "unreadable")  # codes of what may be otherwise the next time: the picture itself was not looked at


class ImageError(MatcherError):
    """A picture that cannot be used. ``code`` is one word for programs, the message one sentence for people.

    Codes: missing, not_a_file, empty, too_large, too_many_pixels, unsupported, truncated, corrupt, unreadable, changed,
    outside.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StaleStageError(MatcherError):
    """A stage file that another config or other inputs made."""

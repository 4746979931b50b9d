import sys
from pathlib import Path

import pytest

from matcher.errors import MatcherError, UsageError


def measure(place: str, rounds: int = 1) -> None:
    """Measures."""
    if rounds < 1:
        raise UsageError("rounds must be 1 or more")
    raise MatcherError(f"there is nothing in {place}")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--place", "x"], 1, "error: there is nothing in x"),
        (["--place", "x", "--rounds", "0"], 2, "error: rounds must be 1 or more (see --help)"),
        ([], 2, "error: the following arguments are required: place (see --help)"),
        (["--place", "x", "--round_s", "2"], 2, "error: unrecognized arguments: --round_s 2 (see --help)"),
    ],
)
def test_a_script_says_one_line_and_its_exit_code(words, code, said, monkeypatch, caplog, capsys):
    monkeypatch.setattr(sys, "argv", ["measure.py", *words])
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "experiments" / "benchmarks"))
    from script import run_script

    with caplog.at_level("INFO"):
        assert run_script(measure) == code
    assert caplog.messages == [said]
    assert capsys.readouterr().out == ""

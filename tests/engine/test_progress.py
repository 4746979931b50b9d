"""A bar on a terminal with rate and end time, nothing but two log lines elsewhere."""

import io
import logging
import re
import sys
import time

import pytest

from matcher.engine.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_rate_and_end_time(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("keypoints", 1000, done=900) as advance:
        for _ in range(5):
            advance(10)
            time.sleep(0.06)
        told = terminal.getvalue().split("\r")
    assert any("90%" in line and "ends ?" in line for line in told)
    assert re.search(r"keypoints: +9\d%.*9\d0/1000 \[.*item/s, .* left, ends \d\d:\d\d:\d\d\]", told[-1])
    rate = float(re.search(r"([\d.]+)item/s", told[-1])[1])
    assert rate < 300  # resumed items are not in the rate: 50 in 0.3 s, not 950


def test_elsewhere_silence_and_two_log_lines(caplog, capfd):
    with caplog.at_level(logging.INFO, "matcher"), progress("keypoints", 10) as advance:
        advance(4)
        advance(6)
    assert capfd.readouterr().err == ""
    assert caplog.messages[0] == "keypoints: 10 items"
    assert re.fullmatch(r"keypoints: 10 items done in \d+\.\d s, [\d.]+ items/s", caplog.messages[1])


def test_no_last_line_after_a_failure(caplog):
    with caplog.at_level(logging.INFO, "matcher"), pytest.raises(ZeroDivisionError), progress("keypoints", 10):
        raise ZeroDivisionError
    assert caplog.messages == ["keypoints: 10 items"]

"""Exit codes, and what goes to stdout and to stderr."""

import json
import os
import signal
import subprocess
import sys

import pytest

import matcher as package
from matcher.cli.verbs import VERBS


def test_help_lists_every_verb_with_its_line(matcher):
    code, out, err = matcher("--help")
    assert code == 0 and not err
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  "))
    assert {verb.replace("_", "-") for verb in VERBS} == set(lines) and all(lines.values())


def test_no_verb_prints_help_to_stderr_and_is_a_usage_error(matcher):
    code, out, err = matcher()
    assert code == 2 and not out and "usage: matcher VERB" in err


def test_version(matcher):
    assert matcher("--version") == (0, f"matcher {package.__version__}\n", "")


def test_verb_may_be_written_with_a_dash(matcher):
    code, out, _ = matcher("fit-fusion", "--help")
    assert code == 0 and "usage: matcher fit_fusion" in out


def test_unknown_verb_names_the_nearest(matcher):
    assert matcher("fit_fuson")[2] == "matcher: error: there is no verb fit-fuson; did you mean fit-fusion? (see matcher --help)\n"
    assert matcher("evalute") == (2, "", "matcher: error: there is no verb evalute; did you mean evaluate? (see matcher --help)\n")


def test_options_before_the_verb_are_explained(matcher):
    code, _, err = matcher("--config", "x.yaml", "run")
    assert code == 2 and "the verb comes first: matcher VERB --config" in err


def test_result_is_printed_as_text_or_json(matcher):
    assert matcher("fine") == (0, "three found\n", "")
    code, out, _ = matcher("fine", "--json")
    assert code == 0 and json.loads(out) == {"found": 3, "threshold": None, "where": "a b"}


def test_path_is_printed(matcher):
    assert matcher("path", "--folder", "/tmp/a")[1] == "/tmp/a/x.parquet\n"
    assert json.loads(matcher("path", "--folder", "/tmp/a", "--json")[1]) == {"path": "/tmp/a/x.parquet"}


def test_result_with_an_exit_code_sets_it(matcher):
    assert matcher("sick")[:2] == (1, "three found\n")


def test_errors_are_one_line(matcher):
    assert matcher("refuse") == (1, "", "matcher: error: no pictures in /tmp/x\n")
    assert matcher("misuse") == (2, "", "matcher: error: give --a or --b (see matcher misuse --help)\n")
    assert matcher("missing") == (1, "", "matcher: error: [Errno 2] No such file or directory: '/nowhere/x.csv'\n")


def test_unexpected_error_is_one_line_that_tells_how_to_see_more(matcher, monkeypatch):
    assert matcher("broken") == (1, "", "matcher: error: KeyError: 'column' (unexpected; MATCHER_DEBUG=1 shows where)\n")
    monkeypatch.setenv("MATCHER_DEBUG", "1")
    err = matcher("broken")[2]
    assert err.startswith("Traceback") and 'raise KeyError("column")' in err and err.count("\n") > 3


def test_ctrl_c_is_130_and_one_line(start):
    process = start("sleep")
    assert process.stdout.readline() == "asleep\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "matcher: interrupted; what was finished is kept, and the same command goes on from there\n"


def test_reader_that_leaves_is_no_error(start):
    process = start("flood")
    process.stdout.close()
    process.wait(timeout=20)
    assert process.stderr.read() == "" and process.returncode == 0


@pytest.mark.parametrize(
    ("stream", "code", "said"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (">/dev/full", 1, "matcher: error: what was done is kept, but stdout cannot be written: No space left on device\n"),
    ],
)
def test_streams_that_are_closed_or_full(stream, code, said):
    command = f"{sys.executable} -m matcher --version {stream}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env={**os.environ, "MATCHER_DEBUG": ""})
    assert (done.returncode, done.stderr) == (code, said)


def test_quiet_leaves_warnings(matcher, verbs_folder):
    with (verbs_folder / "testverbs.py").open("a") as file:
        file.write("\n    import logging\n    log = logging.getLogger('matcher')\n    log.info('news')\n    log.warning('danger')\n")
    text = (verbs_folder / "testverbs.py").read_text()
    (verbs_folder / "testverbs.py").write_text(text.replace('    return "x" * 1_000_000\n', ""))
    assert matcher("flood") == (0, "", "news\ndanger\n")
    assert matcher("flood", "--quiet") == (0, "", "danger\n")

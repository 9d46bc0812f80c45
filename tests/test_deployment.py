"""The deployment page holds: its commands exist, and its drain times fit the supervisors'."""

import re
import shlex
from pathlib import Path

import click
import pytest

from openoutcry.cli import main
from openoutcry.cli.hosting import CLEAN_UP_S
from openoutcry.runtime.api import lifecycle

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
MARGIN_S = 10


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)[number]


def number_in(text: str, pattern: str) -> int:
    (found,) = re.findall(pattern, text, flags=re.MULTILINE)
    return int(found)


DRAIN_S = {
    "unit": number_in(block("ini"), r"--drain-timeout (\d+)$"),
    "image": number_in(block("dockerfile"), r'"--drain-timeout", "(\d+)"'),
}
SUPERVISORS_S = {
    "systemd": (number_in(block("ini"), r"^TimeoutStopSec=(\d+)$"), DRAIN_S["unit"]),
    "compose": (number_in(block("yaml"), r"stop_grace_period: (\d+)s"), DRAIN_S["image"]),
    "Kubernetes": (number_in(block("yaml", 1), r"terminationGracePeriodSeconds: (\d+)"), DRAIN_S["image"]),
}


@pytest.mark.parametrize("supervisor", SUPERVISORS_S)
def test_a_supervisor_waits_for_the_drain_and_a_margin(supervisor: str) -> None:
    waits_s, drain_s = SUPERVISORS_S[supervisor]
    assert waits_s >= drain_s + MARGIN_S


def test_the_times_that_the_text_states_are_those_of_the_examples() -> None:
    assert set(DRAIN_S.values()) == {20}
    assert {f"{waits} s" for waits, _ in SUPERVISORS_S.values()} == {"35 s"}
    assert "drains for 20 s. Whatever is left is killed after 35 s." in TEXT


def test_the_stated_5_s_beyond_the_drain_time_out_cover_what_the_end_of_a_run_may_take() -> None:
    after_the_drain_s = (
        2 * lifecycle.AFTERWARDS_S + lifecycle.MOMENT_S
    )  # what stop() takes beyond its deadline
    own_clean_up_s = left_over_s = (
        CLEAN_UP_S  # of a program that waits in run_until_signal; of the other tasks
    )
    assert own_clean_up_s + after_the_drain_s + left_over_s <= 5
    assert "at most 5 s more" in TEXT


def commands() -> list[list[str]]:
    unit = re.findall(r"^ExecStart=(.+)$", block("ini"), flags=re.MULTILINE)
    lists = re.findall(r"(\[\"openoutcry\".+?\])", TEXT)
    shown = re.findall(r"(?:`|/|^)(openoutcry [^`\n]+?)(?:`|$)", TEXT, flags=re.MULTILINE)
    found = [shlex.split(line)[1:] for line in [*unit, *shown]]
    return found + [re.findall(r'"([^"]+)"', line)[1:] for line in lists]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_of_the_page_exists_with_its_options(words: list[str]) -> None:
    command = main.commands[words[0]]
    names = {name for p in command.params if isinstance(p, click.Option) for name in p.opts}
    assert {word for word in words if word.startswith("--")} <= names


def test_the_unit_says_what_the_text_promises() -> None:
    lines = block("ini").splitlines()
    assert {
        "Type=exec",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "KillSignal=SIGTERM",
        "StateDirectory=firm",
        "User=firm",
        "NoNewPrivileges=true",
    } <= set(lines)


def test_the_environment_variables_of_the_page_are_those_of_the_command() -> None:
    run = main.commands["run"]
    known = {p.envvar for p in run.params}
    assert set(re.findall(r"OPENOUTCRY_\w+", TEXT)) <= known

"""The compiled core: what is pure is pure, the doctor tells which core runs, and what is missing is named."""

import os
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from openoutcry.cli import main
from openoutcry.compiled import compiled_modules

ROOT = Path(__file__).resolve().parent.parent
COMPILE = ROOT / "scripts" / "compile_core.py"


def said_by_the_doctor() -> str:
    return CliRunner().invoke(main, ["doctor"]).output.splitlines()[0]


def test_a_checkout_is_pure_and_the_doctor_says_so() -> None:
    assert compiled_modules() == []
    assert said_by_the_doctor().endswith("pure Python")


def test_the_doctor_counts_the_modules_that_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openoutcry.core.made_up", "openoutcry.made_up__mypyc"):
        module = ModuleType(name)
        module.__file__ = f"made_up{EXTENSION_SUFFIXES[0]}"
        monkeypatch.setitem(sys.modules, name, module)
    assert compiled_modules() == ["openoutcry.core.made_up"]
    assert said_by_the_doctor().endswith("compiled (1 module)")


def test_every_module_that_is_to_be_compiled_exists() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    modules = wheel["hooks"]["custom"]["modules"]
    assert modules == sorted(modules)
    assert all((ROOT / "src" / f"{module.replace('.', '/')}.py").is_file() for module in modules)


def compile_with(compiler: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, COMPILE, ROOT / "src", folder / "out", "openoutcry.core.lanes"],
        env={**os.environ, "CC": str(compiler)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_it_is_said_what_to_install(tmp_path: Path) -> None:
    done = compile_with(tmp_path / "no-such-cc", tmp_path)
    assert done.returncode == 1
    assert f"there is no C compiler that works ({tmp_path / 'no-such-cc'}): install one" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_the_headers_of_python_it_is_said_what_to_install(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\nfor word; do last=$word; done\n! grep -q Python.h "${last%.o}.c" || { echo no >&2; exit 1; }\n'
    )
    compiler.chmod(0o755)
    done = compile_with(compiler, tmp_path)
    assert done.returncode == 1
    assert f"the headers of this Python ({sys.executable}) are missing: install them" in done.stderr

"""Compile modules of a source folder with mypyc.

    python scripts/compile_core.py SOURCE FOLDER openoutcry.core.lanes ...

The extension modules go to FOLDER/lib, each where its source is in SOURCE, which stays as it is.
`hatch_build.py` runs this for a wheel that is to be compiled. It needs mypy, setuptools, a C compiler and the
headers of this Python, and ends with 1 and a sentence where one of the last two is missing.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

LIBRARY = "openoutcry.compiled"
"""What the library that all compiled modules share is named after."""
NO_COMPILER = (
    "there is no C compiler that works ({compiler}): install one (Debian: apt-get install gcc libc6-dev), "
    "or name it with CC"
)
NO_HEADERS = (
    "the headers of this Python ({python}) are missing: install them (Debian: apt-get install python3-dev)"
)


def main() -> None:
    """Compile what the command line says."""
    source, folder, *modules = sys.argv[1:]
    check_compiler()
    place = Path(folder).resolve()
    os.chdir(source)
    compile_modules(modules, place)


def check_compiler() -> None:
    """End with 1 if nothing can be compiled for this Python here, and say what is missing."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    include = sysconfig.get_path("include")
    for program, missing in (("int probe;", NO_COMPILER), ("#include <Python.h>", NO_HEADERS)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "probe.c")
            file.write_text(f"{program}\n", encoding="ascii")
            command = [*compiler.split(), f"-I{include}", "-c", file, "-o", file.with_suffix(".o")]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                said = done.stderr.strip() if done.returncode else ""
            except OSError as error:
                said = str(error)
        if said:
            sys.exit(f"{said}\n{missing.format(compiler=compiler, python=sys.executable)}")


def compile_modules(modules: list[str], folder: Path) -> None:
    """Compile modules of the current folder into one library, so that they call each other directly."""
    import setuptools  # noqa: PLC0415 - before mypyc, which then builds with it
    from mypyc.build import mypycify  # noqa: PLC0415 - needed only where there is a compiler

    files = [f"{module.replace('.', '/')}.py" for module in modules]
    extensions = mypycify(
        ["--config-file=", f"--cache-dir={folder / 'mypy'}", *files],
        only_compile_paths=files,
        group_name=LIBRARY,
        opt_level="2",
        debug_level="0",
        target_dir=str(folder / "c"),
    )
    distribution = setuptools.Distribution({"name": LIBRARY, "ext_modules": extensions})
    build = distribution.get_command_obj("build_ext")
    build.build_lib, build.build_temp = str(folder / "lib"), str(folder / "o")
    build.ensure_finalized()
    build.run()


if __name__ == "__main__":
    main()

"""Compiles the core into a wheel where `OPENOUTCRY_COMPILE=1` asks for it; otherwise the wheel is pure."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "OPENOUTCRY_COMPILE"
NEEDS = ("mypy>=2.4,<3", "setuptools>=70")
SHOWN_LINES_MAX = 30


class CompiledCore(BuildHookInterface):
    """Adds the compiled modules to a wheel, beside their sources."""

    def dependencies(self) -> list[str]:
        """Return what compiling needs: mypyc, which comes with mypy, and the types that the modules use."""
        return [*NEEDS, *self.metadata.core.dependencies] if self._is_asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. An editable installation is pure: its sources are to be edited."""
        if not self._is_asked() or version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="openoutcry-compiled-")
        made = self._compile(Path(self._folder.name))
        build_data["force_include"].update(made)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - the hook's interface
        """Remove what was compiled: the wheel has it."""
        if build_data["infer_tag"]:
            self._folder.cleanup()

    def _is_asked(self) -> bool:
        value = os.environ.get(VARIABLE, "")
        if value not in {"", "0", "1"}:
            self.app.abort(f"{VARIABLE} is {value!r}: set it to 1 for a compiled core, to 0 for pure Python")
        return value == "1"

    def _compile(self, folder: Path) -> dict[str, str]:
        """Return the extension modules that were made, and where each belongs in the wheel."""
        source, script = Path(self.root, "src"), Path(self.root, "scripts", "compile_core.py")
        command = [sys.executable, script, source, folder, *self.config["modules"]]
        done = subprocess.run(  # noqa: S603 - our own script
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            said = "\n".join(done.stdout.strip().splitlines()[-SHOWN_LINES_MAX:])
            self.app.abort(
                f"{said}\n{VARIABLE}=1 asks for a compiled core, which cannot be made: see above. Without "
                f"{VARIABLE} the same source is installed as pure Python."
            )
        made = folder / "lib"
        return {str(path): path.relative_to(made).as_posix() for path in made.rglob("*.*") if path.is_file()}

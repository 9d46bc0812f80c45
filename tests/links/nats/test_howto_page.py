"""What `docs/howto/several-desks.md` says under "Try it on this host", done with a real server."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from nats_kit import a_firm

from openoutcry.links.nats.servers import Servers

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "howto" / "several-desks.md"


def test_the_two_desks_of_the_page_trade(one_node: Servers, tmp_path: Path):
    blocks = re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL)
    files = dict(blocks)
    firm, floor = a_firm(), files["floor.toml"]
    floor = floor.replace('"alpha"', f'"{firm}"').replace("nats://127.0.0.1:4222", one_node.urls[0])
    street = floor.replace("floor", "street").replace('["fill"]', '["order"]')
    (tmp_path / "trade.py").write_text(files["trade.py"], encoding="utf-8")
    (tmp_path / "floor.toml").write_text(floor, encoding="utf-8")
    (tmp_path / "street.toml").write_text(street, encoding="utf-8")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "src"), *filter(None, [environment.get("PYTHONPATH")])]
    )
    desks = [
        subprocess.Popen(
            [sys.executable, "-m", "openoutcry", "run", f"trade:{name}", "--config", f"{name}.toml"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("street", "floor")
    ]
    try:
        said = desks[1].stdout
        assert said is not None
        filled = []
        while len(filled) < 5:
            line = said.readline()
            assert line, f"the floor ended after {filled}"
            filled += re.findall(r"filled (\S+)", line)
        assert filled == [f"o-{number}" for number in range(5)]
    finally:
        for desk in desks:
            desk.send_signal(signal.SIGTERM)
        for desk in desks:
            desk.communicate()
    assert [desk.returncode for desk in desks] == [0, 0]

"""`openoutcry firm permissions`: a firm's file becomes a server's configuration, or the mistake in it is named."""

import stat
from pathlib import Path

import pytest
from tests.cli.firm.firm_kit import call

KEYS = {name: "U" + letter * 55 for name, letter in zip(("floor", "street", "admin"), "ABC", strict=True)}
PLAIN = f"""
firm = "alpha"
admin = "{KEYS["admin"]}"
store = "/var/lib/nats"
releasers = ["floor"]
trimmers = ["street"]
[desks.floor]
key = "{KEYS["floor"]}"
[desks.street]
key = "{KEYS["street"]}"
"""


def printed(folder: Path, text: str) -> tuple[int, str, str]:
    file = folder / "FIRM.toml"
    file.write_text(text)
    result = call("permissions", file)
    return result.exit_code, result.stdout, result.stderr


def test_a_firm_s_file_becomes_the_servers_configuration(tmp_path):
    code, text, _ = printed(tmp_path, PLAIN)
    assert code == 0
    assert text.count("{") == text.count("}")
    floor, _, street = text.partition(KEYS["street"])
    assert "oo.alpha.release.floor" in floor
    assert "oo.alpha.release.street" not in street
    assert "STREAM.PURGE" in street
    assert "STREAM.PURGE" not in floor
    assert KEYS["admin"] in text


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ('firm = "alpha"', "", "firm is called None; it must be 1 to 48"),
        ('firm = "alpha"', 'firm = "a.b"', "firm is called 'a.b'"),
        ("[desks.floor]", '[desks."fl.oor"]', "names ['floor'], who have no table"),
        ('releasers = ["floor"]', 'releasers = "floor"', "it must be a list of strings"),
        ('releasers = ["floor"]', 'releasers = ["risk"]', "releasers names ['risk'], who have no table"),
        (f'key = "{KEYS["floor"]}"', "", "[desks.floor] has no key"),
        (f'key = "{KEYS["floor"]}"', 'key = "SUSECRET"', "a seed, which is secret"),
        (f'key = "{KEYS["floor"]}"', f'key = "{KEYS["street"]}"', "have the same key"),
        (f'key = "{KEYS["floor"]}"', f'key = "{KEYS["floor"]}"\nrole = "x"', "unknown settings ['role']"),
        ('store = "/var/lib/nats"', 'stores = "/var/lib/nats"', "unknown settings ['stores']"),
        ('store = "/var/lib/nats"', "store = 5", "it must be text"),
        ("[desks.floor]", "[desks.floor", "is not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, was, becomes, said):
    assert was in PLAIN
    code, text, error = printed(tmp_path, PLAIN.replace(was, becomes))
    assert (code, text) == (2, "")
    assert said in error
    assert "FIRM.toml" in error


@pytest.mark.parametrize("text", ['firm = "alpha"', 'firm = "alpha"\ndesks = 5', 'firm = "alpha"\n[desks]'])
def test_a_firm_without_desks_is_refused(tmp_path, text):
    code, _, error = printed(tmp_path, text)
    assert code == 2
    assert "there are no desks" in error


def test_a_desk_is_a_table(tmp_path):
    code, _, error = printed(tmp_path, 'firm = "alpha"\n[desks]\nfloor = "U"')
    assert code == 2
    assert "desks.floor is 'U'; it must be a table: [desks.floor]" in error


def test_a_key_is_made_in_a_file_that_nobody_else_reads(tmp_path):
    file = tmp_path / "street.nk"
    result = call("permissions", "--make-key", file)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("U")
    assert len(result.stdout.strip()) == 56
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("SU")
    assert call("permissions", "--make-key", file).exit_code == 2


def test_a_file_or_a_key_is_asked_for(tmp_path):
    assert call("permissions").exit_code == 2
    assert call("permissions", tmp_path / "FIRM.toml", "--make-key", tmp_path / "x").exit_code == 2

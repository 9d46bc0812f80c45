"""The settings of a link: what is fine is kept, what is not says so; and `[link]` in a settings file."""

import json
from pathlib import Path
from typing import Any

import pytest

from openoutcry.config import MOST, BusConfig, Link, load_config, to_plain
from openoutcry.errors import ConfigError
from openoutcry.events import EventType

NUMBERS: list[tuple[str, list[Any], list[Any], list[Any]]] = [
    ("link_lost_s", [0, 0.49, -1], [0.5, 5, MOST], [MOST * 1.01]),
    ("lease_s", [0.99, -1], [0, 1, 15, MOST], [MOST * 1.01]),
    ("replicas", [0, -1], [1, 3, 5], [6]),
    ("max_bytes", [0, 2**20 - 1], [2**20, MOST], [MOST * 2]),
]


def link(**given: Any) -> Link:
    return Link(**{"firm": "alpha", "desk": "street", **given})


@pytest.mark.parametrize("name", ["alpha", "a", "0", "fx-2", "a_b", "x" * 48])
def test_a_firm_and_a_desk_may_be_called_so(name):
    assert link(firm=name).firm == link(desk=name).desk == name


@pytest.mark.parametrize(
    "bad", ["", "a.b", "a*", ">", "A", "é", "-a", "_a", "a b", "x" * 49, "a\n", None, 5, b"a"]
)
@pytest.mark.parametrize("which", ["firm", "desk"])
def test_no_name_with_a_dot_or_a_wildcard_or_anything_else_is_taken(which, bad):
    with pytest.raises(ConfigError, match=f"{which} is .*it must be 1 to 48 of a-z"):
        link(**{which: bad})


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, _, good, _ in NUMBERS for v in good])
def test_a_number_in_range_is_kept_as_it_is(name, value):
    assert getattr(link(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n, low, _, high in NUMBERS for v in (*low, *high, True, None, "5", float("nan"))],
)
def test_a_number_out_of_range_is_refused_with_name_value_and_limit(name, value):
    with pytest.raises(ConfigError, match=f"{name} is .*it must be "):
        link(**{name: value})


def test_every_number_is_in_the_table_above():
    default = link()
    numbers = {n for n in Link.__slots__ if type(getattr(default, n)) in (int, float)}
    assert numbers == {name for name, *_ in NUMBERS}


@pytest.mark.parametrize("name", ["exports", "keep", "imports"])
def test_types_may_be_one_or_several_or_members_of_the_enum(name):
    assert getattr(link(**{name: "fill"}), name) == {"fill"}
    assert getattr(link(**{name: ["fill", EventType.ORDER]}), name) == {"fill", "order"}
    assert getattr(link(**{name: []}), name) == frozenset()


@pytest.mark.parametrize("name", ["exports", "imports"])
def test_a_star_is_every_type(name):
    assert getattr(link(**{name: "*"}), name) == getattr(link(**{name: ["*"]}), name) == {"*"}


def test_keeping_every_type_is_said_otherwise():
    with pytest.raises(ConfigError, match=r"keep is \['\*'\].*exports = \[\]"):
        link(keep="*")


@pytest.mark.parametrize("name", ["exports", "keep", "imports"])
@pytest.mark.parametrize("bad", ["ORDER", "order.*", "kill-switch", ["OrderEvent"], [""], [5], 5, None])
def test_a_type_that_is_misspelt_or_none_is_refused(name, bad):
    with pytest.raises(ConfigError, match=name):
        link(**{name: bad})


@pytest.mark.parametrize("url", ["nats://127.0.0.1:4222", "tls://n1.firm.example:4222", "nats://[::1]:4222"])
def test_a_server_is_given_by_its_url(url):
    assert link(servers=[url]).servers == (url,)


@pytest.mark.parametrize(
    "url",
    [
        "n1:4222",
        "nats://n1",
        "http://n1:4222",
        "nats://",
        "nats://:4222",
        "nats://n1:70000",
        "nats://n1:x",
        "nats://u:p@n1:1",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url):
    with pytest.raises(ConfigError, match=r"servers has .*nats://host:port"):
        link(servers=[url])


@pytest.mark.parametrize("bad", [[], "nats://n1:4222", [5], [""], None])
def test_servers_are_a_list_with_at_least_one(bad):
    with pytest.raises(ConfigError, match="servers is"):
        link(servers=bad)


def test_files_are_named_from_the_current_folder_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = link(seed_file="street.nk", tls_ca=Path("ca.pem"), tls_cert="c.pem", tls_key="k.pem")
    assert made.seed_file == tmp_path / "street.nk"
    assert made.tls_ca == tmp_path / "ca.pem"


@pytest.mark.parametrize("given", [{"tls_cert": "c.pem"}, {"tls_key": "k.pem"}])
def test_a_certificate_and_its_key_belong_together(given):
    with pytest.raises(ConfigError, match="tls_cert and tls_key belong together"):
        link(**given)


@pytest.mark.parametrize("word", ["Halt", "", None, "stop"])
def test_what_to_do_on_a_lost_link_is_one_of_two_words(word):
    with pytest.raises(ConfigError, match=r"on_link_lost is .*alert, halt"):
        link(on_link_lost=word)


def test_the_settings_of_a_link_are_ready_for_json(tmp_path):
    plain = to_plain(link(imports=["b", "a"], seed_file=tmp_path / "s"))
    assert json.loads(json.dumps(plain))["imports"] == ["a", "b"]
    assert plain["seed_file"] == str(tmp_path / "s")


def test_a_bus_takes_only_settings_of_a_link_for_such():
    with pytest.raises(ConfigError, match="link is 'alpha'; it must be a Link"):
        BusConfig(link="alpha")  # type: ignore[arg-type]


# -- from a file --------------------------------------------------------------------------------------


def load(folder: Path, text: str) -> BusConfig:
    path = folder / "firm.toml"
    path.write_text(text)
    return load_config(path)


def test_a_file_gives_the_link(tmp_path):
    text = """
    [persistence]
    path = "street.db"
    [link]
    firm = "alpha"
    desk = "street"
    servers = ["tls://n1:4222", "tls://n2:4222", "tls://n3:4222"]
    exports = "*"
    keep = ["heartbeat_note"]
    imports = ["validated_decision", "market_data"]
    on_link_lost = "halt"
    journals = ["/srv/firm/journals"]
    """
    config = load(tmp_path, text)
    assert config.link == Link(
        firm="alpha",
        desk="street",
        servers=("tls://n1:4222", "tls://n2:4222", "tls://n3:4222"),
        keep={"heartbeat_note"},
        imports={"validated_decision", "market_data"},
        on_link_lost="halt",
        journals=("/srv/firm/journals",),
    )
    assert config.arguments()["link"] is config.link


def test_a_file_without_a_link_gives_none(tmp_path):
    config = load(tmp_path, "[bus]\n")
    assert config.link is config.arguments()["link"] is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[link]\nfirm = 'a'", r"\[link\] has no desk; give desk"),
        ("[link]\ndesk = 'a'", r"\[link\] has no firm"),
        (
            "[link]\nfirm='a'\ndesk='b'\nserver = 'x'",
            r"\[link\] has unknown settings \['server'\]; known .*'servers'",
        ),
        ("[link]\nfirm='a.b'\ndesk='b'", r"firm is 'a\.b'"),
        ("[link]\nfirm='a'\ndesk='b'\nservers='nats://n1:4222'", "servers is .*; it must be a list"),
        ("link = 3", r"link is 3; it must be a table: \[link\]"),
        ("[bus.link]\nfirm='a'\ndesk='b'", r"\[bus\] has unknown settings \['link'\]"),
    ],
)
def test_a_mistake_in_the_table_is_named_with_the_file(tmp_path, text, match):
    with pytest.raises(ConfigError, match=match) as refused:
        load(tmp_path, text)
    assert "firm.toml" in str(refused.value)


def test_releasers_are_desks_or_all_of_them():
    assert link().releasers == {"*"}
    assert link(releasers="floor").releasers == {"floor"}
    assert link(releasers=["floor", "risk-2"]).releasers == {"floor", "risk-2"}
    assert link(releasers=[]).releasers == frozenset()
    with pytest.raises(ConfigError, match=r"releasers has \['a.b'\], which no desk may be called"):
        link(releasers=["a.b", "floor"])

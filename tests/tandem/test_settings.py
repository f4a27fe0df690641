"""Settings: who wins, what is refused, how sizes and addresses are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.errors import SettingsError
from tandem.settings import (
    GatewaySettings,
    NodeSettings,
    config_dir,
    default_data_dir,
    flag_of,
    is_loopback,
    join_address,
    load_settings,
    parse_size,
    settings_of,
    split_address,
)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    working, user = tmp_path / "working", tmp_path / "user"
    working.mkdir()
    user.mkdir()
    return working, user


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_flags_over_environment_over_files_over_defaults(
    tmp_path_factory: pytest.TempPathFactory, flag: bool, variable: bool, near: bool, far: bool
) -> None:
    working, user = tmp_path_factory.mktemp("working"), tmp_path_factory.mktemp("user")
    if near:
        (working / "tandem.toml").write_text('cluster = "working"\n')
    if far:
        (user / "tandem.toml").write_text('cluster = "user"\n')
    found = load_settings(
        NodeSettings,
        {"cluster": "flag" if flag else None},
        environ={"TANDEM_CLUSTER": "variable"} if variable else {},
        folders=(working, user),
    )
    order = [("flag", flag), ("variable", variable), ("working", near), ("user", far), ("tandem", True)]
    assert found.cluster == next(name for name, given_ in order if given_)


def test_two_files_are_merged_key_by_key(folders: tuple[Path, Path]) -> None:
    (folders[0] / "tandem.toml").write_text('[node]\nname = "near"\n')
    (folders[1] / "tandem.toml").write_text('[node]\nname = "far"\nmemory = "12GB"\n')
    found = load_settings(NodeSettings, environ={}, folders=folders)
    assert (found.name, found.memory) == ("near", 12 * 10**9)


def test_a_section_speaks_to_its_own_kind(folders: tuple[Path, Path]) -> None:
    (folders[0] / "tandem.toml").write_text(
        'cluster = "all"\nmdns = false\n[node]\ncluster = "nodes"\n[gateway]\napi_keys = ["a", "b"]\n'
    )
    node = load_settings(NodeSettings, environ={}, folders=folders)
    gateway = load_settings(GatewaySettings, environ={}, folders=folders)
    assert (node.cluster, node.mdns) == ("nodes", False)
    assert (gateway.cluster, gateway.mdns, gateway.api_keys) == ("all", False, ("a", "b"))


def test_every_setting_can_be_set_in_the_environment(folders: tuple[Path, Path]) -> None:
    texts: dict[str, str] = {
        "name": "mini",
        "listen": "[::1]:7000",
        "peers": "127.0.0.1:1, 127.0.0.1:2",
        "cluster": "home",
        "mdns": "no",
        "memory": "900MiB",
        "data_dir": "/tmp/state",
        "model_dirs": "/models:/more",
        "insecure": "yes",
        "dtype": "FLOAT32",
        "max_sequences": "8",
        "max_waiting": "9",
        "prefill_chunk": "128",
        "log_level": "debug",
    }
    settings = settings_of(NodeSettings)
    assert texts.keys() == settings.keys()
    found = load_settings(NodeSettings, environ={settings[key].env: text for key, text in texts.items()}, folders=())
    assert found == NodeSettings(
        name="mini",
        listen="[::1]:7000",
        peers=("127.0.0.1:1", "127.0.0.1:2"),
        cluster="home",
        mdns=False,
        memory=900 * 2**20,
        data_dir=Path("/tmp/state"),
        model_dirs=(Path("/models"), Path("/more")),
        insecure=True,
        dtype="float32",
        max_sequences=8,
        max_waiting=9,
        prefill_chunk=128,
        log_level="debug",
    )


def test_the_gateway_reads_its_variables() -> None:
    environ = {"TANDEM_API_KEY": "one,two", "TANDEM_NODE": "127.0.0.1:1", "TANDEM_GATEWAY_LISTEN": "0.0.0.0:80"}
    found = load_settings(GatewaySettings, environ=environ, folders=())
    assert (found.api_keys, found.nodes, found.listen) == (("one", "two"), ("127.0.0.1:1",), "0.0.0.0:80")


def test_an_empty_variable_is_not_set() -> None:
    assert load_settings(NodeSettings, environ={"TANDEM_CLUSTER": ""}, folders=()).cluster == "tandem"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('clutser = "x"', ("'clutser'", "'cluster'")),
        ('[node]\nmemroy = "1GB"', ("'memroy'", "'memory'", "[node]")),
        ('[gateway]\nlistne = "x"', ("'listne'", "'listen'", "[gateway]")),
        ("[nodes]\n", ("'nodes'", "'node'")),
        ('name = "x"', ("'name'",)),
        ("node = 1", ("'node'", "section")),
        ('[node]\nmemory = "a lot"', ("memory", "'a lot'")),
        ("[node]\nname = 7", ("name", "7")),
        ("mdns = 2", ("mdns",)),
        ("[node]\nmax_sequences = true", ("max_sequences",)),
        ("[node]\npeers = 3", ("peers",)),
        ("cluster = ", ("Invalid value",)),
        ('[gateway]\nlisten = "nowhere"', ("listen", "'nowhere'")),
    ],
)
def test_a_wrong_file_is_named_with_its_key(folders: tuple[Path, Path], text: str, parts: tuple[str, ...]) -> None:
    path = folders[1] / "tandem.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(NodeSettings, environ={}, folders=folders)
    for part in (str(path), *parts):
        assert part in caught.value.message
    assert "\n" not in caught.value.message


def test_a_wrong_variable_is_named() -> None:
    assert load_settings(NodeSettings, environ={"TANDEM_MODEL": "what the examples ask for"}, folders=())
    with pytest.raises(SettingsError, match=r"'TANDEM_CLSTER' in the environment: did you mean 'TANDEM_CLUSTER'"):
        load_settings(NodeSettings, environ={"TANDEM_CLSTER": "x"}, folders=())
    with pytest.raises(SettingsError, match="TANDEM_MDNS: 'perhaps'"):
        load_settings(NodeSettings, environ={"TANDEM_MDNS": "perhaps"}, folders=())


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(SettingsError, match=r"--peer: '127\.0\.0\.1' is not HOST:PORT"):
        load_settings(NodeSettings, {"peers": ["127.0.0.1"]}, environ={}, folders=())
    with pytest.raises(SettingsError, match="'peer' in the command line: did you mean 'peers'"):
        load_settings(NodeSettings, {"peer": "x"}, environ={}, folders=())


def test_a_node_beyond_this_machine_needs_insecure() -> None:
    with pytest.raises(SettingsError, match=r"listen: 0\.0\.0\.0:1 .*--insecure"):
        NodeSettings(listen="0.0.0.0:1")
    assert NodeSettings(listen="0.0.0.0:1", insecure=True).listen == "0.0.0.0:1"


def test_a_gateway_beyond_this_machine_needs_a_key_or_insecure() -> None:
    with pytest.raises(SettingsError, match=r"listen: \[::\]:1 .*--api-key"):
        GatewaySettings(listen="[::]:1")
    assert GatewaySettings(listen="[::]:1", api_keys=("k",)).api_keys == ("k",)
    assert GatewaySettings(listen="[::]:1", insecure=True).insecure


def test_folders_follow_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr("sys.platform", "linux")
    assert (config_dir(), default_data_dir()) == (
        Path("/home/ada/.config/tandem"),
        Path("/home/ada/.local/state/tandem"),
    )
    monkeypatch.setattr("sys.platform", "darwin")
    support = Path("/home/ada/Library/Application Support/tandem")
    assert (config_dir(), default_data_dir()) == (support, support / "node")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/x")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/x")
    assert (config_dir(), default_data_dir()) == (Path("/etc/x/tandem"), Path("/var/x/tandem"))


def test_flags_are_named_after_fields() -> None:
    settings = settings_of(NodeSettings)
    assert [flag_of(key, settings[key]) for key in ("data_dir", "peers")] == ["--data-dir", "--peer"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12GB", 12 * 10**9),
        ("12gib", 12 * 2**30),
        ("1.5 TB", 1_500_000_000_000),
        ("900M", 900 * 10**6),
        ("512kib", 512 * 1024),
        ("77", 77),
        ("8B", 8),
        (4096, 4096),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "12 apples", "-1GB", "0", "1e9", "1..5GB", "٣GB", True, None, 0, -5, 1.5j])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_size(text)


@given(st.integers(min_value=1, max_value=10**15), st.sampled_from(["k", "M", "G", "KB", "MB", "KiB", "MiB", "gib"]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * parse_size(f"1{unit}")


@given(
    st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)),
    st.integers(0, 65535),
)
def test_addresses_come_apart_as_they_were_joined(host: str, port: int) -> None:
    assert split_address(join_address(host, port)) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:x", "host:65536", "::1:52415", "[::1]", "host:-1", "h:²"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets"):
        split_address(text)


def test_loopback() -> None:
    assert [host for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9") if not is_loopback(host)] == []
    assert [host for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "fe80::1%en0") if is_loopback(host)] == []

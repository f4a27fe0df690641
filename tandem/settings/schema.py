"""What can be set: one class per kind of process, one field per setting, and about each what a person must know."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from tandem.errors import SettingsError
from tandem.settings import values

DEFAULT_CLUSTER: Final = "tandem"
DEFAULT_NODE: Final = "127.0.0.1:52415"
DEFAULT_GATEWAY: Final = "127.0.0.1:52525"
MODEL_VARIABLE: Final = "TANDEM_MODEL"
"""Names the model to ask for: ``tandem chat`` reads it, and so do the examples. No daemon does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """About one field: how its text is read, its variable in the environment, its flag and what people are told.

    A shared setting stands at the top of ``tandem.toml``; in a section it holds for that kind of process alone.
    """

    parse: Callable[[object], Any]
    env: str
    help: str
    metavar: str | None = None
    flag: str = ""
    shared: bool = False


Cluster = Annotated[
    str,
    Setting(
        parse=values.text,
        env="TANDEM_CLUSTER",
        help="nodes and gateways of one name form one cluster (tandem)",
        metavar="NAME",
        shared=True,
    ),
]
Mdns = Annotated[
    bool,
    Setting(parse=values.switch, env="TANDEM_MDNS", help="announce and find nodes by mDNS (yes)", shared=True),
]
Insecure = Annotated[
    bool,
    Setting(
        parse=values.switch,
        env="TANDEM_INSECURE",
        help="listen beyond this machine although nobody is asked who they are (no)",
        shared=True,
    ),
]
LogLevel = Annotated[
    str,
    Setting(
        parse=values.choice("debug", "info", "warning", "error"),
        env="TANDEM_LOG_LEVEL",
        help="debug, info, warning or error (info)",
        metavar="LEVEL",
        shared=True,
    ),
]


def host_name() -> str:
    """This machine's name without its domain."""
    return socket.gethostname().partition(".")[0] or "node"


def default_data_dir() -> Path:
    """Where a node keeps its state when not told: ``$XDG_STATE_HOME/tandem``, else the platform's own place."""
    if folder := os.environ.get("XDG_STATE_HOME"):
        return Path(folder) / "tandem"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tandem" / "node"
    return Path.home() / ".local" / "state" / "tandem"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What one node daemon is told. Listening beyond loopback without ``insecure`` is a ``SettingsError``."""

    name: Annotated[
        str,
        Setting(
            parse=values.text,
            env="TANDEM_NODE_NAME",
            help="what people call this node (the machine's name)",
            metavar="NAME",
        ),
    ] = field(default_factory=host_name)
    listen: Annotated[
        str,
        Setting(
            parse=values.address,
            env="TANDEM_NODE_LISTEN",
            help=f"where to serve gRPC; port 0 takes a free one ({DEFAULT_NODE})",
            metavar="HOST:PORT",
        ),
    ] = DEFAULT_NODE
    peers: Annotated[
        tuple[str, ...],
        Setting(
            parse=values.several(values.address),
            env="TANDEM_NODE_PEERS",
            help="a node to join, beside those found by mDNS; may be given again",
            metavar="HOST:PORT",
            flag="--peer",
        ),
    ] = ()
    cluster: Cluster = DEFAULT_CLUSTER
    mdns: Mdns = True
    memory: Annotated[
        int | None,
        Setting(
            parse=values.parse_size,
            env="TANDEM_NODE_MEMORY",
            help="memory for weights and caches, like 12GB (most of what the machine has)",
            metavar="SIZE",
        ),
    ] = None
    data_dir: Annotated[
        Path,
        Setting(
            parse=values.path,
            env="TANDEM_NODE_DATA_DIR",
            help="folder of this node's id and state; every daemon has its own (in the user's state folder)",
            metavar="FOLDER",
        ),
    ] = field(default_factory=default_data_dir)
    model_dirs: Annotated[
        tuple[Path, ...],
        Setting(
            parse=values.several(values.path, os.pathsep),
            env="TANDEM_NODE_MODEL_DIRS",
            help="a folder of models, beside the Hugging Face cache; may be given again",
            metavar="FOLDER",
            flag="--model-dir",
        ),
    ] = ()
    insecure: Insecure = False
    dtype: Annotated[
        str,
        Setting(
            parse=values.choice("auto", "float32", "float16", "bfloat16"),
            env="TANDEM_NODE_DTYPE",
            help="compute in float32, float16 or bfloat16 instead of the checkpoint's own (auto)",
            metavar="TYPE",
        ),
    ] = "auto"
    max_sequences: Annotated[
        int,
        Setting(
            parse=values.count,
            env="TANDEM_NODE_MAX_SEQUENCES",
            help="sequences that a pipeline generates at the same time (64)",
            metavar="N",
        ),
    ] = 64
    max_waiting: Annotated[
        int,
        Setting(
            parse=values.count,
            env="TANDEM_NODE_MAX_WAITING",
            help="requests that may wait for their turn; more are refused (256)",
            metavar="N",
        ),
    ] = 256
    prefill_chunk: Annotated[
        int,
        Setting(
            parse=values.count,
            env="TANDEM_NODE_PREFILL_CHUNK",
            help="tokens of a prompt that run in one step (512)",
            metavar="TOKENS",
        ),
    ] = 512
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        if not self.insecure and not values.is_loopback(values.split_address(self.listen)[0]):
            raise SettingsError(
                f"listen: {self.listen} is beyond this machine, and nodes do not ask each other who they are yet; "
                "--insecure allows it on a network that you trust"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """What one gateway is told. Listening beyond loopback needs an API key or ``insecure``, else ``SettingsError``."""

    listen: Annotated[
        str,
        Setting(
            parse=values.address,
            env="TANDEM_GATEWAY_LISTEN",
            help=f"where to serve HTTP; port 0 takes a free one ({DEFAULT_GATEWAY})",
            metavar="HOST:PORT",
        ),
    ] = DEFAULT_GATEWAY
    nodes: Annotated[
        tuple[str, ...],
        Setting(
            parse=values.several(values.address),
            env="TANDEM_NODE",
            help="a node to talk to, instead of those found by mDNS; may be given again",
            metavar="HOST:PORT",
            flag="--node",
        ),
    ] = ()
    cluster: Cluster = DEFAULT_CLUSTER
    mdns: Mdns = True
    api_keys: Annotated[
        tuple[str, ...],
        Setting(
            parse=values.several(values.text),
            env="TANDEM_API_KEY",
            help="a key that clients must show; may be given again (none: everybody is served)",
            metavar="KEY",
            flag="--api-key",
        ),
    ] = ()
    insecure: Insecure = False
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        if not self.insecure and not self.api_keys and not values.is_loopback(values.split_address(self.listen)[0]):
            raise SettingsError(
                f"listen: {self.listen} is beyond this machine; --api-key says who may use it, "
                "--insecure lets everybody on a network that you trust"
            )


SECTIONS: Final[dict[str, type[NodeSettings] | type[GatewaySettings]]] = {
    "node": NodeSettings,
    "gateway": GatewaySettings,
}
"""Sections of ``tandem.toml``."""


def settings_of(kind: type[Any]) -> dict[str, Setting]:
    """Every setting of one kind of process by the name of its field, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return {item.name: hints[item.name].__metadata__[0] for item in fields(kind)}


def flag_of(key: str, setting: Setting) -> str:
    """The flag that sets a field, for example ``--data-dir``."""
    return setting.flag or "--" + key.replace("_", "-")

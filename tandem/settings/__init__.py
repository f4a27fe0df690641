"""Settings of nodes and gateways: flags over environment (``TANDEM_…``) over ``tandem.toml`` over defaults.

Two files are read, the one in the working folder and the one in the user's configuration folder; a key in the first
hides the same key in the second. Shared keys stand at the top, the others in their section::

    cluster = "home"

    [node]
    memory = "12GB"
    peers = ["10.0.0.2:52415"]

A key that nothing knows is a ``SettingsError`` that names it, says where it stands and what is near.
"""

from tandem.settings.arguments import add_flags, given_flags
from tandem.settings.schema import (
    DEFAULT_CLUSTER,
    DEFAULT_GATEWAY,
    DEFAULT_NODE,
    MODEL_VARIABLE,
    GatewaySettings,
    NodeSettings,
    default_data_dir,
    flag_of,
    settings_of,
)
from tandem.settings.sources import config_dir, load_settings
from tandem.settings.values import is_loopback, join_address, parse_size, split_address

__all__ = [
    "DEFAULT_CLUSTER",
    "DEFAULT_GATEWAY",
    "DEFAULT_NODE",
    "MODEL_VARIABLE",
    "GatewaySettings",
    "NodeSettings",
    "add_flags",
    "config_dir",
    "default_data_dir",
    "flag_of",
    "given_flags",
    "is_loopback",
    "join_address",
    "load_settings",
    "parse_size",
    "settings_of",
    "split_address",
]

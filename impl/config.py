"""The configuration of one node: a TOML file, with environment variables on top.

``TELEGRAFT_HTTP=127.0.0.1:8107 telegraft node --config node-1.toml`` changes one value; a nested one is written
``TELEGRAFT_PEERS='{"2": "127.0.0.1:9102"}'``. Every mistake is reported with the file, the key and what to do.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file and every key at fault."""


def parse_address(text: str) -> tuple[str, int]:
    """``host:port`` as a pair. Raises ``ValueError`` with the offending text."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not an address: write host:port, with a port from 1 to 65535")
    return host.strip("[]"), int(port)


def _address(text: str) -> str:
    parse_address(text)
    return text


Address = Annotated[str, AfterValidator(_address)]
NodeKey = Annotated[int, Field(gt=0, lt=1024)]


class NodeConfig(BaseSettings):
    """What one node has to know. Times in ticks of ``tick_ms``."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix="TELEGRAFT_", validate_default=True)

    cluster: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    node_id: NodeKey
    data_dir: Path
    http: Address
    """Where clients are served."""
    peer: Address
    """Where the other nodes' streams are received."""
    peers: dict[NodeKey, Address] = {}
    """The founding members of the group, this node among them or not: node id -> the address that this node dials to
    reach it. A node that joins needs none: it is told by the group."""
    peer_urls: dict[NodeKey, str] = {}
    """node id -> the URL that clients are told for it."""
    dial: dict[NodeKey, Address] = {}
    """node id -> the address that this node dials whatever the group says: for proxies and forwarded ports."""
    advertise_peer: Address | None = None
    """Where other nodes reach this one, if not at ``peer`` (which may be 0.0.0.0)."""
    advertise_url: Annotated[str, Field(pattern=r"^https?://[^/\s]+$")] | None = None
    """Where clients reach this node, if not at http:// and ``http``."""
    tick_ms: Annotated[int, Field(ge=1, le=10_000)] = 10
    heartbeat_ticks: Annotated[int, Field(ge=1)] = 6
    election_ticks: Annotated[int, Field(ge=2)] = 30
    """A leader is given up after 30 to 59 ticks without a word: 300 to 590 ms. The finer the ticks, the rarer two
    members stand for election within the same one and split the vote."""
    priority: Annotated[int, Field(ge=0, le=2)] = 2
    """Who leads while all are well: 2 first, 1 an election timeout later, 0 never unless leadership is handed to it."""
    lease_ms: Annotated[int, Field(ge=0)] = 0
    """How long after a confirmed round a leader answers `consistency=lease` by its clock alone; 0: never, such reads
    are then as any other. At most (election_ticks - 3) * tick_ms, less the share by which clocks may drift apart."""
    snapshot_entries: Annotated[int, Field(ge=1)] = 100_000
    snapshot_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    """A snapshot is taken when so many entries, or so many bytes of them, have been applied since the last one."""
    keep_entries: Annotated[int, Field(ge=0)] = 10_000
    """So many entries stay in the log in front of a snapshot, for members that are a little behind."""
    check_invariants: bool = False
    """Look at every invariant of the core after every step, and stop at the first that is broken."""

    @model_validator(mode="after")
    def _consistent(self) -> NodeConfig:
        if self.heartbeat_ticks >= self.election_ticks:
            raise ValueError(
                f"heartbeat_ticks ({self.heartbeat_ticks}) must be less than election_ticks ({self.election_ticks})"
            )
        most_ms = (self.election_ticks - 3) * self.tick_ms
        if self.lease_ms > max(most_ms, 0):
            raise ValueError(
                f"lease_ms ({self.lease_ms}) must be at most (election_ticks - 3) * tick_ms ({max(most_ms, 0)}), or "
                "another leader could be elected while this one still answers by its lease"
            )
        return self

    @property
    def voters(self) -> tuple[int, ...]:
        """Who founds the group, if this configuration is used to found one."""
        return tuple(sorted({self.node_id, *self.peers}))

    @property
    def reply_to(self) -> str:
        """host:port at which other nodes reach this one."""
        return self.advertise_peer or self.peer

    @property
    def url(self) -> str:
        """Where clients reach this node."""
        return self.advertise_url or self.peer_urls.get(self.node_id) or f"http://{self.http}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load_config(path: Path) -> NodeConfig:
    """Read a node's configuration. Raises ``ConfigError``."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): name an existing file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    if isinstance(values.get("data_dir"), str):
        values["data_dir"] = path.parent / values["data_dir"]  # relative paths start where the file is
    try:
        return NodeConfig(**values)
    except SettingsError as error:
        raise ConfigError(f"environment, on top of {path}: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(_say(path, fault) for fault in error.errors())) from error


def _say(path: Path, fault: Any) -> str:
    """One mistake in words: where it is, what is wrong, what to do."""
    key = ".".join(str(part) for part in fault["loc"])
    variable = f"TELEGRAFT_{str(fault['loc'][0]).upper()}" if fault["loc"] else ""
    where = f"environment variable {variable}" if variable in os.environ else str(path)
    match fault["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(key, NodeConfig.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(NodeConfig.model_fields)}"
            return f"{where}: unknown key {key!r}: {hint}"
        case "missing":
            return f"{where}: key {key!r} is missing"
        case "value_error" if not key:
            return f"{where}: {fault['ctx']['error']}"
        case _:
            return f"{where}: {key}: {fault['msg'].removeprefix('Value error, ')} (got {fault['input']!r})"

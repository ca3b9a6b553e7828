"""The ``telegraft`` command.

This module owns the command and the sub-commands of the implementation. The other packages add theirs through the
entry-point group ``telegraft.commands``: each entry point loads to a function that takes the typer application.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer

COMMANDS_GROUP = "telegraft.commands"

app = typer.Typer(
    name="telegraft",
    help="A replicated chat service on its own Raft, and the machinery that checks it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cluster_app = typer.Typer(help="A local cluster of real processes.", no_args_is_help=True)
app.add_typer(cluster_app, name="cluster")


@app.command()
def node(
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, a TOML file.")],
    end_with_parent: Annotated[
        bool, typer.Option("--end-with-parent", help="End when the process that started this one ends (Linux only).")
    ] = False,
) -> None:
    """Run one node from a configuration file, until SIGTERM or Ctrl-C."""
    from impl import process

    if end_with_parent:
        process.end_with_parent()
    raise typer.Exit(process.main(config))


@cluster_app.command()
def up(
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=9, help="How many nodes.")] = 3,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Where configurations, logs and data are kept.")] = Path(
        "cluster"
    ),
    http_port: Annotated[int, typer.Option("--http-port", min=1, max=65000, help="Node 1's port for clients.")] = 8101,
    peer_port: Annotated[int, typer.Option("--peer-port", min=1, max=65000, help="Node 1's port for peers.")] = 9101,
    restart: Annotated[bool, typer.Option("--restart/--no-restart", help="Start a node that died again.")] = True,
) -> None:
    """Run a cluster on this machine until Ctrl-C. Data is kept: the same command goes on with it."""
    from impl import local_cluster

    raise typer.Exit(local_cluster.main(nodes, data_dir, http_port, peer_port, restart=restart))


EXIT_INTERRUPTED = 130

OWN_COMMANDS = frozenset({"node", "cluster"})


def build() -> typer.Typer:
    """The whole command: the sub-commands above and those of the other packages, in the order of their names."""
    for entry_point in sorted(importlib.metadata.entry_points(group=COMMANDS_GROUP), key=lambda found: found.name):
        entry_point.load()(app)
    return app


def main() -> None:
    """Run the command. A node starts without loading the packages that only judge it."""
    try:
        if sys.argv[1:2] and sys.argv[1] in OWN_COMMANDS:
            app()
        else:
            build()()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()

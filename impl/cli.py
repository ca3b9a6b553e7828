"""The ``telegraft`` command.

This module owns the command and the sub-commands of the implementation. The other packages add theirs through the
entry-point group ``telegraft.commands``: each entry point loads to a function that takes the typer application.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from impl.cluster_commands import Group

COMMANDS_GROUP = "telegraft.commands"

app = typer.Typer(
    name="telegraft",
    help="A replicated chat service on its own Raft, and the machinery that checks it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
member_app = typer.Typer(help="Who belongs to a group that runs: look, add, remove, replace.", no_args_is_help=True)
app.add_typer(member_app, name="member")
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


@app.command()
def init(
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, a TOML file.")],
    join: Annotated[
        bool,
        typer.Option("--join", help="The node is to be added to a group that exists, with `telegraft member add`."),
    ] = False,
) -> None:
    """Format a node's data directory, once, before its first start.

    Without --join the node is a founding member: every one of them is formatted with the same cluster name and the
    same set of nodes in `peers`.
    """
    from impl import process

    raise typer.Exit(process.init(config, join=join))


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


ClusterOption = Annotated[
    str, typer.Option("--cluster", metavar="URL", help="Any node of the group, like http://127.0.0.1:8101.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def _operate(url: str, work: Callable[[Group], object]) -> None:
    """Do something with a running group, and say in words what goes wrong."""
    from impl.cluster_commands import Api, Group, OperatorError

    try:
        work(Group(Api(url), lambda words: print(words, file=sys.stderr)))
    except OperatorError as error:
        print(f"telegraft: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


@member_app.command("list")
def list_members(cluster: ClusterOption, as_json: JsonOption = False) -> None:
    """Who belongs to the group, who leads it, and how far each member is behind."""
    from impl.cluster_commands import table

    def work(group: Group) -> None:
        seen = group.look()
        print(json.dumps(seen) if as_json else table(seen))

    _operate(cluster, work)


@member_app.command("add")
def add_member(
    url: Annotated[str, typer.Argument(metavar="NEW_URL", help="The new node; it runs, formatted with init --join.")],
    cluster: ClusterOption,
    learner: Annotated[bool, typer.Option("--learner", help="It gets everything, and does not vote.")] = False,
) -> None:
    """Add a node: as a learner first, and as a voter once it has caught up."""
    _operate(cluster, lambda group: group.add(url, learner=learner))


@member_app.command("remove")
def remove_member(node_id: Annotated[int, typer.Argument(min=1)], cluster: ClusterOption) -> None:
    """Take a node out of the group."""
    _operate(cluster, lambda group: group.remove(node_id))


@member_app.command("promote")
def promote_member(node_id: Annotated[int, typer.Argument(min=1)], cluster: ClusterOption) -> None:
    """Make a learner a voter, once it has caught up."""
    _operate(cluster, lambda group: group.promote(node_id))


@member_app.command("replace")
def replace_member(
    old: Annotated[int, typer.Argument(min=1, metavar="OLD", help="The node that leaves.")],
    url: Annotated[str, typer.Argument(metavar="NEW_URL", help="The node that takes its place.")],
    cluster: ClusterOption,
) -> None:
    """Put a new node into the place of an old one: it catches up first, then both are swapped in one change."""
    _operate(cluster, lambda group: group.replace(old, url))


@app.command()
def transfer(
    cluster: ClusterOption,
    target: Annotated[int, typer.Argument(min=0, help="A voter; 0: whoever is furthest.")] = 0,
) -> None:
    """Hand leadership over to another node."""
    _operate(cluster, lambda group: group.transfer(target))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; it must not exist.")],
    cluster: ClusterOption,
    fresh: Annotated[bool, typer.Option("--fresh/--newest", help="Take a snapshot now, or use the newest.")] = True,
) -> None:
    """Save the state of a running node: a snapshot, as `telegraft restore` takes it."""
    from impl import cluster_commands

    if file.exists():
        print(f"telegraft: {file} exists: choose another name", file=sys.stderr)
        raise typer.Exit(2)

    def work(group: Group) -> None:
        index, size_bytes = cluster_commands.backup(group.api, file, fresh=fresh)
        print(f"{file}: everything up to entry {index}, {size_bytes:,} bytes")

    _operate(cluster, work)


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="A file that `telegraft backup` has written.")],
    config: Annotated[Path, typer.Option("--config", help="The configuration of a founding member of the new group.")],
    same_name: Annotated[
        bool, typer.Option("--same-name", help="The new cluster may have the name of the old one, which is gone.")
    ] = False,
) -> None:
    """Make the data directory of a founding member of a new group out of a backup.

    Run it once for each founding member, with the same backup and each member's own configuration; then start them.
    """
    from impl import process

    raise typer.Exit(process.restore(config, backup, same_name=same_name))


@app.command()
def doctor(
    data_dir: Annotated[Path, typer.Argument(metavar="DATA_DIR", help="The data directory of a node that is stopped.")],
    as_json: JsonOption = False,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help="Keep what is there in a folder beside, and format anew, to join the group."),
    ] = False,
) -> None:
    """Look at a data directory and say what it holds, and whether it is damaged. Changes nothing by itself."""
    from impl import doctor

    raise typer.Exit(doctor.main(data_dir, as_json=as_json, aside=set_aside))


EXIT_INTERRUPTED = 130

OWN_COMMANDS = frozenset({"node", "cluster", "init", "member", "transfer", "backup", "restore", "doctor"})


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

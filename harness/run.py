"""One run, from nothing to a verdict: nodes up, clients at work, faults, healing, progress, final reads, judgement.

Theory of operation
-------------------
The phases follow each other and each has a bound, so that a run always ends:

    start       the nodes, at most ``READY_TIMEOUT_S`` each; once more on other ports if that fails
    set up      users, chats, memberships, on an undisturbed cluster
    chat        ``duration_s`` of workload and nemesis
    heal        whatever the nemesis broke is mended; nodes that it ended are started again
    progress    a write and a read through each node: the liveness half of the verdict
    final reads every chat from its first message to its last
    stop        SIGTERM, and SIGKILL where that does not help
    judge       the history against the model, in a process of its own with a deadline
    report      verdict.json and report.html

Whatever goes wrong, the nodes are ended, the folder is kept, and the verdict says what it was. A Ctrl-C or a SIGTERM
ends the run the same way, with what was recorded so far; a second one kills the nodes at once.
"""

from __future__ import annotations

import signal
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from harness.cluster import Cluster, NodeFailed, prepare
from harness.display import CRASH_COLOUR, FAULT_COLOUR, HEALED_COLOUR, REFRESH_S, Display, View
from harness.faults.nemesis import Nemesis
from harness.faults.plan import FaultPlan, World
from harness.faults.schedule import Schedule, draw_schedule
from harness.judge import Judgement, judge
from harness.observer import Observer
from harness.params import RunParams
from harness.recorder import Recorder
from harness.runs import RunFolder, create
from harness.verdict import EXIT_CODES, Findings, verdict_record
from harness.workloads.chat import ChatWorkload, SetUpFailed
from harness.workloads.service import Service

START_ATTEMPTS = 2
"""A port that was free may be taken a moment later; twice in a row is another problem."""

LAST_OPERATIONS_S = 1.0
"""On top of an operation's own timeout, for the clients to end when the time is up; then they are cancelled."""

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``record`` is the content of verdict.json."""

    folder: RunFolder
    record: dict[str, Any]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        return EXIT_INTERRUPTED if self.interrupted else EXIT_CODES[self.record["verdict"]]


async def run(
    params: RunParams, out: Path, display: Display, *, report: bool = True, kind: type[Run] | None = None
) -> Outcome:
    """Carry out one run below the folder ``out``; returns its verdict. Raises OSError if the folder cannot be made.

    ``kind``: what happens to the cluster while clients chat, if not the faults of the schedule.
    """
    schedule = draw_schedule(params)
    folder = create(out, params, schedule)
    with folder.history.open("wb") as stream:
        recorder = Recorder(stream, lanes=params.clients)
        running = (kind or Run)(params, schedule, folder, recorder, display)
        async with trio.open_nursery() as beside:
            beside.start_soon(running.refresh_display)
            beside.start_soon(running.heed_signals)
            await running.live()
            judgement = await running.judged()
            beside.cancel_scope.cancel()
    findings = running.findings(judgement)
    record = verdict_record(
        running.params_judged,
        findings,
        run_dir=str(folder.path),
        replay=params.replay_command(out),
        duration_s=running.duration_s,
    )
    record |= running.more_to_tell()
    folder.write_json(folder.verdict, record)
    if report:
        running.enter("writing the report")
        write_report(folder, record)
        folder.write_json(folder.verdict, record)
    display.close()
    return Outcome(folder, record, findings.interrupted)


class Run:
    """The state of one run between its phases."""

    def __init__(
        self, params: RunParams, schedule: Schedule, folder: RunFolder, recorder: Recorder, display: Display
    ) -> None:
        self.params = params
        self.schedule = schedule
        self.folder = folder
        self.recorder = recorder
        self.display = display
        self.view = View(params, recorder=recorder)
        self.cluster: Cluster | None = None
        self.observer: Observer | None = None
        self.nemesis: Nemesis | None = None
        self.problems: list[str] = []
        self.crashes: list[str] = []
        self.liveness = ""
        self.interrupted = False
        self.duration_s = 0.0
        self._scope = trio.CancelScope()  # of the phase that a signal ends

    def enter(self, phase: str) -> None:
        """Begin a phase, for all to see."""
        self.view.phase = phase
        self.display.phase(self.view)

    # --- what other kinds of runs do otherwise ---------------------------------------------------------------------

    async def prepared(self) -> Cluster:
        """A cluster of which nothing is started yet."""
        return await prepare(self.folder.path, nodes=self.params.nodes, name=self.params.name, bug=self.params.bug)

    async def while_chatting(self, cluster: Cluster, observer: Observer) -> None:
        """Everything that happens to the cluster while clients chat; when it returns, they stop."""
        with trio.move_on_after(self.params.duration_s):
            nemesis = Nemesis(self.schedule, World(cluster, observer.leader), self.recorder, self._announce)
            self.nemesis = self.view.nemesis = nemesis
            await nemesis.run()
            await trio.sleep_forever()

    async def after_chatting(self) -> None:
        """What there is to look at once everything is healed and read to its end."""

    @property
    def params_judged(self) -> RunParams:
        """What the verdict measures the run by."""
        return self.params

    def more_to_tell(self) -> dict[str, Any]:
        """What verdict.json holds beside what every run's does."""
        return {}

    # --- phases ------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Everything that needs the cluster; ends with all nodes ended. Problems are noted, not raised."""
        try:
            with trio.CancelScope() as self._scope:
                await self._with_cluster()
        except Exception as raised:
            for error in leaves(raised):
                self._note_failure(error)
        finally:
            if self.cluster is not None:
                self.cluster.kill_now()  # the last resort, should an exception have passed the orderly ends
                for disorder in self.cluster.take_disorders():  # found since the watch ended
                    self._note_crash(disorder)

    def _note_failure(self, error: Exception) -> None:
        if isinstance(error, NodeFailed | SetUpFailed):
            self.problems.append(str(error))
            return
        # A bug in the harness or in the client: a doubt about the run, and no reason to lose its history.
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        self.problems.append(f"the harness failed ({said}): see {self.folder.error.name} in the run folder")
        with self.folder.error.open("a") as file:
            file.writelines(traceback.format_exception(error))

    async def judged(self) -> Judgement:
        """Check the history."""
        self.enter("checking the history")
        with trio.CancelScope() as self._scope:
            return await judge(self.folder.history, self.params.check_deadline_s)
        return Judgement("unknown", "the check was interrupted")

    async def _with_cluster(self) -> None:
        self.enter("starting the nodes")
        for attempt in range(1, START_ATTEMPTS + 1):
            cluster = await self.prepared()
            self.cluster = self.view.cluster = cluster
            async with trio.open_nursery() as links:
                links.start_soon(cluster.links.serve)
                try:
                    await cluster.start()
                except NodeFailed:
                    if attempt == START_ATTEMPTS:
                        raise
                else:
                    await self._with_nodes(cluster)
                    return
                finally:
                    await cluster.stop()
                    links.cancel_scope.cancel()

    async def _with_nodes(self, cluster: Cluster) -> None:
        self.observer = self.view.observer = Observer(cluster, self.recorder)
        async with trio.open_nursery() as watchers:
            watchers.start_soon(self.observer.run)
            watchers.start_soon(cluster.watch_for_crashes, self._note_crash)
            async with Service(cluster.client_urls(), self.params.clients) as service:
                workload = ChatWorkload(self.params, self.recorder, service.caller_of)
                self.enter("setting up users and chats")
                await workload.set_up()
                await self._chat(workload, cluster, self.observer)
                self.enter("healed; waiting for progress")
                self.liveness = await workload.wait_for_progress()
                self.enter("reading every chat to its end")
                unread = await workload.read_everything()
                self.liveness = self.liveness or unread
                await self.after_chatting()
            self.enter("stopping the nodes")
            watchers.cancel_scope.cancel()

    async def _chat(self, workload: ChatWorkload, cluster: Cluster, observer: Observer) -> None:
        """Workload and nemesis together; afterwards nothing is broken any more."""
        began = self.view.workload_began = trio.current_time()
        self.enter("chatting under faults" if self.schedule.faults else "chatting")
        try:
            async with trio.open_nursery() as clients:
                clients.start_soon(workload.run)
                await self.while_chatting(cluster, observer)
                workload.stop()
                # Operations under way may end; what is still open then is cancelled and stays pending.
                clients.cancel_scope.deadline = (
                    trio.current_time() + self.params.operation_timeout_s + LAST_OPERATIONS_S
                )
        finally:
            self.duration_s = trio.current_time() - began
        self.enter("healing")
        for node in cluster.nodes.values():
            node.resume()
        try:
            await cluster.start()
        except NodeFailed as failure:  # the others may still show what became of the messages
            self.problems.append(str(failure))

    def findings(self, judgement: Judgement) -> Findings:
        """Everything that was found."""
        fired = dict.fromkeys(self.params.faults, 0) | (dict(self.nemesis.fired) if self.nemesis is not None else {})
        return Findings(
            judgement=judgement,
            operations=self.recorder.tallies,
            faults=fired,
            leader_changes=self.observer.leader_changes if self.observer is not None else 0,
            split_terms=self.observer.split_terms if self.observer is not None else [],
            crashes=self.crashes,
            problems=self.problems + (self.nemesis.problems if self.nemesis is not None else []),
            liveness=self.liveness,
            interrupted=self.interrupted,
        )

    # --- beside the phases -------------------------------------------------------------------------------------

    async def refresh_display(self) -> None:
        while True:
            self.view.sample()
            self.display.refresh(self.view)
            await trio.sleep(REFRESH_S)

    async def heed_signals(self) -> None:
        """End the phase under way at SIGINT or SIGTERM; at the second one, kill the nodes as well."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if self.interrupted and self.cluster is not None:
                    self.cluster.kill_now()
                self.interrupted = True
                self._note("interrupted: stopping", "")
                self._scope.cancel()

    def _announce(self, plan: FaultPlan, description: str, started: bool) -> None:
        if started:
            self._note(description, FAULT_COLOUR)
        else:
            self._note(f"healed: {description}", HEALED_COLOUR)

    def _note_crash(self, crash: str) -> None:
        self.crashes.append(crash)
        self._note(crash.splitlines()[0], CRASH_COLOUR)

    def _note(self, text: str, colour: str) -> None:
        self.view.events.append((self.view.elapsed_s, text, colour))
        self.display.event(self.view, text, colour)


def leaves(error: Exception) -> list[Exception]:
    """The exceptions in a group of groups, or the one that is none."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]


def write_report(folder: RunFolder, record: dict[str, Any]) -> None:
    """Write report.html; a report that cannot be written is noted in the record and changes no verdict."""
    from harness.report import ReportError, write_report

    try:
        record["report"] = str(write_report(folder.path))
    except (ReportError, OSError) as error:
        record["report_error"] = str(error)

"""Where the server reaches into Hypercorn: fails, with an explanation, when Hypercorn moves what is relied upon.

When a test here fails after an upgrade: read ``impl/http/connection.py`` beside Hypercorn's new ``trio/tcp_server.py``
and ``protocol/h11.py``, adapt it, and only then raise the version bound in pyproject.toml.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version

import hypercorn.trio.tcp_server as tcp_server
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import TrioSingleTask, WorkerContext

EXPLANATION = (
    "Hypercorn has moved a seam that impl/http/connection.py or server.py uses: see the docstring of test_seam"
)


def parameters(function: object) -> list[str]:
    assert callable(function), EXPLANATION
    return list(inspect.signature(function).parameters)


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("hypercorn").startswith("0.18."), EXPLANATION


def test_tcp_server_takes_any_stream_and_has_the_methods_we_replace() -> None:
    assert parameters(TCPServer.__init__) == ["self", "app", "config", "context", "state", "stream"], EXPLANATION
    assert inspect.iscoroutinefunction(TCPServer.run), EXPLANATION
    assert inspect.iscoroutinefunction(TCPServer._read_data), EXPLANATION


def test_the_protocol_is_in_place_before_reading_starts_and_is_called_through_the_attribute() -> None:
    run = inspect.getsource(TCPServer.run)
    assert 0 < run.index("self.protocol = ProtocolWrapper(") < run.index("self._read_data()"), EXPLANATION
    assert "self.protocol.handle" in inspect.getsource(TCPServer._read_data), EXPLANATION


def test_the_timer_of_an_idle_connection_is_a_task_that_can_be_stopped() -> None:
    assert "self.idle_task = TrioSingleTask()" in inspect.getsource(TCPServer.__init__), EXPLANATION
    assert parameters(TrioSingleTask.stop) == ["self"], EXPLANATION


def test_writes_are_shielded_without_a_deadline_which_is_why_ours_have_one() -> None:
    """If this fails, Hypercorn may have closed the hole itself, and ``BoundStream`` may be needless."""
    send = inspect.getsource(TCPServer.protocol_send)
    assert "shield = True" in send, EXPLANATION
    assert "fail_after" not in send, EXPLANATION
    assert "BrokenResourceError" in send, EXPLANATION


def test_the_protocol_wrapper_and_the_protocol_take_the_same_things() -> None:
    taken = ["self", "app", "config", "context", "task_group"]
    assert parameters(ProtocolWrapper.__init__)[:5] == taken, EXPLANATION
    assert parameters(H11Protocol.__init__) == [
        *taken,
        "connection_state",
        "ssl",
        "client",
        "server",
        "send",
    ], EXPLANATION
    wrapper = inspect.getsource(ProtocolWrapper.__init__)
    for name in ("app", "config", "context", "task_group", "state", "ssl", "client", "server", "send"):
        assert f"self.{name} = {name}" in wrapper, EXPLANATION


def test_the_protocol_has_the_methods_we_replace() -> None:
    assert parameters(H11Protocol._create_stream) == ["self", "request"], EXPLANATION
    assert parameters(H11Protocol._check_protocol) == ["self", "event"], EXPLANATION
    assert parameters(H11Protocol._send_error_response) == ["self", "status_code"], EXPLANATION
    assert parameters(H11Protocol._send_h11_event) == ["self", "event"], EXPLANATION
    events = inspect.getsource(H11Protocol._handle_events)
    assert events.count("self.stream.handle(") == 3, EXPLANATION


def test_lifespan_and_context_are_used_as_hypercorn_uses_them() -> None:
    assert parameters(Lifespan.__init__) == ["self", "app", "config", "state"], EXPLANATION
    for name in ("handle_lifespan", "wait_for_startup", "wait_for_shutdown"):
        assert inspect.iscoroutinefunction(getattr(Lifespan, name)), EXPLANATION
    assert parameters(WorkerContext.__init__) == ["self", "max_requests"], EXPLANATION
    assert "terminated" in inspect.getsource(WorkerContext.__init__), EXPLANATION
    assert "terminated" in inspect.getsource(tcp_server), EXPLANATION


def test_the_settings_we_set_exist() -> None:
    for name in (
        "logger_class",
        "accesslog",
        "errorlog",
        "alpn_protocols",
        "include_server_header",
        "h11_max_incomplete_size",
        "keep_alive_timeout",
        "keep_alive_max_requests",
        "startup_timeout",
        "shutdown_timeout",
    ):
        assert hasattr(Config, name), f"{EXPLANATION} (the setting {name})"

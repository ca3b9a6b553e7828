"""Who is calling: the one place that answers it.

Theory of operation
-------------------
Every endpoint that acts for a user asks ``identify`` and believes its answer. Today it believes the header
``Telegraft-User``, which is enough for a cluster on a trusted network and for tests. Authentication replaces the body
of this function (a bearer token looked up in the replicated sessions) and nothing else changes in this room; the
client's counterpart is ``impl.client.identity``.
"""

from __future__ import annotations

from starlette.requests import Request

from impl.http.parse import parse_id
from impl.http.problems import unauthenticated
from impl.http.wire import USER_HEADER


def identify(request: Request) -> int:
    """The id of the calling user. Raises ``Problem`` (401), telling what to send, when the request does not say."""
    value = request.headers.get(USER_HEADER)
    if value is None:
        raise unauthenticated(f"Send the header '{USER_HEADER}: <user id>'. Create a user with POST /v1/users.")
    user_id = parse_id(value)
    if user_id is None:
        raise unauthenticated(
            f"The header {USER_HEADER} holds {value[:64]!r}, which is no user id: send the decimal number "
            "that POST /v1/users answered."
        )
    return user_id

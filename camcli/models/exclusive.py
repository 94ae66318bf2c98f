"""The use of a network by one thread at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def exclusive(module: nn.Module) -> Iterator[None]:
    """Use a network in this thread alone: calls for it in other threads wait until the end.

    So do those for another network with a part or a parameter of this one. All parts are taken at
    once, so that two threads cannot each wait for a part that the other has. Within the context,
    the thread may use the network again. Nothing is stored in the network, which can be copied and
    pickled as before.
    """
    me = threading.current_thread()
    if _USERS.get(id(module)) is me:  # and so are its parts
        yield
        return
    taken = [*module.modules(), *module.parameters()]  # whose ids are theirs as long as they exist
    ids: set[int] = set()
    try:
        with _CHANGE:
            while not _CHANGE.wait_for(lambda: _is_free(taken, me), _PATIENCE):
                pass  # a thread that dies tells nobody
            ids = {id(part) for part in taken if _USERS.get(id(part)) is not me}
            _USERS.update(dict.fromkeys(ids, me))
        yield
    finally:
        with _CHANGE:
            for key in ids:
                _USERS.pop(key, None)
            _CHANGE.notify_all()


_USERS: dict[int, threading.Thread] = {}
"""The threads that use networks, by the ids of the networks' parts and parameters."""
_CHANGE = threading.Condition()
_PATIENCE = 1.0
"""The seconds after which a waiting thread looks again."""


def _is_free(parts: list[object], me: threading.Thread) -> bool:
    users = {_USERS[id(part)] for part in parts if id(part) in _USERS}
    return not any(user.is_alive() for user in users - {me})


def _forget() -> None:
    """Forget the threads of the parent process: a fork has only the one that called it."""
    global _CHANGE
    _USERS.clear()
    _CHANGE = threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

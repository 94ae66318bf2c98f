"""Start camcli in forks of one process that has torch imported, which saves seconds each time.

`python -m tests.handbook.server SOCKET` waits for requests of `client.py`, which stands for the
command `camcli`. Weights that torchvision would download are random ones.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from dataclasses import replace

import click
import torch

from camcli import cli
from camcli.models.options import ModelOptions
from camcli.models.sources import SOURCES, NetworkSource


def without_downloads(source: NetworkSource) -> NetworkSource:
    """Return a source whose published weights are replaced by random ones."""

    def load(options: ModelOptions) -> object:
        random = options.weights == "DEFAULT"
        return source.load(replace(options, weights="none") if random else options)

    return replace(source, load=load)  # type: ignore[arg-type]


def import_everything() -> None:
    """Import what the commands need."""
    context = click.Context(cli.camcli)
    for name in cli.COMMANDS:
        cli.camcli.get_command(context, name)
    import camcli.runs.pipeline
    import camcli.training.train  # noqa: F401


def answer(connection: socket.socket) -> None:
    """Run one request in this process, with the files and the folder of its client."""
    message, files, *_ = socket.recv_fds(connection, 1 << 20, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
    request = json.loads(message)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    code = 1
    try:
        cli.main(request["arguments"])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException:  # noqa: BLE001 - a process cannot pass it on
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(bytes([code]))
        os._exit(code)


def serve(path: str) -> None:
    """Answer requests, each in a fork, until this process is terminated."""
    torch.set_num_threads(1)
    import_everything()
    SOURCES[:] = [
        without_downloads(source) if source.name == "torchvision" else source for source in SOURCES
    ]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)  # noqa: T201 - read by the test
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(connection)
            connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])

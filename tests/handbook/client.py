"""The command `camcli` of a sandbox: pass a request to `server.py` and exit with its code."""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["CAMCLI_SERVER"])
    request = {"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    sys.exit(ord(server.recv(1) or b"\1"))

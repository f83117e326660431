"""Stands between the binary of a step and Lambda, and lets the step fail as the order under test asks for it.

`stack.py faults` deploys it as `bootstrap` beside the real binary, which it starts and whose Runtime API it relays. An
order asks by its correlation id, `fault:<step>:<kind>:<times>:<uuid>`. Kinds: `crash` and `timeout` happen, `hold` waits
for the file `go` of the test; each `-before` the step gets the event or `-after` it has done its work, before the answer
gets out; `none` only counts. What the test may look at lies in $TMPDIR/faults/<correlation id>/: one file `try-<n>` for
each time that the step was called, `held` while it is held. All other orders are relayed as they are.
"""
import ctypes
import http.client
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

RUNTIME_API = os.environ["AWS_LAMBDA_RUNTIME_API"]
FUNCTION = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
FAULTS = Path(os.environ.get("TMPDIR", "/tmp")) / "faults"
DIRECTIVE = re.compile(r"fault:([a-z-]+):(?:(none)|(crash|timeout|hold)-(before|after)):(\d{1,4}|always):[0-9a-f-]{36}")
AT_MOST = 120  # seconds that anything here may wait; Lambda's own timeout comes earlier


class Fault:
    """What the event of this invocation asks for; `kind` is None when that is nothing."""

    def __init__(self, event: bytes):
        self.kind = self.moment = None
        try:
            correlation_id = json.loads(event)["correlation_id"]
            asked = DIRECTIVE.fullmatch(correlation_id)
        except (ValueError, TypeError, KeyError):
            return
        if not asked or not FUNCTION.endswith(f"-{asked[1]}"):
            return
        self.folder = FAULTS / correlation_id
        self.folder.mkdir(parents=True, exist_ok=True)
        count = len(list(self.folder.glob("try-*"))) + 1  # an order's tries of a step come one after the other
        (self.folder / f"try-{count}").touch()
        if asked[5] == "always" or count <= int(asked[5]):
            self.kind, self.moment = asked[3], asked[4]

    def strike(self, moment: str):
        if moment != self.moment:
            return
        if self.kind == "crash":
            os._exit(1)
        held = self.folder / "held"
        if self.kind == "hold":
            held.touch()
        deadline = time.monotonic() + AT_MOST
        while time.monotonic() < deadline and not (self.kind == "hold" and (self.folder / "go").exists()):
            time.sleep(0.02)
        held.unlink(missing_ok=True)


class Relay(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True
    fault = Fault(b"")  # of the invocation under way; Lambda gives a process one at a time

    def setup(self):
        super().setup()
        self.lambda_ = http.client.HTTPConnection(RUNTIME_API)

    def do_GET(self):
        answer, body = self.ask("GET")
        if self.path.endswith("/invocation/next") and answer.status == 200:
            Relay.fault = Fault(body)
            Relay.fault.strike("before")
        self.reply(answer, body)

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunks()
        if "/invocation/" in self.path:
            Relay.fault.strike("after")
        self.reply(*self.ask("POST", sent))

    def chunks(self) -> bytes:
        sent = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            sent += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return sent

    def ask(self, method: str, sent: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        hop = ("host", "connection", "content-length", "transfer-encoding", "te", "trailer")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
        self.lambda_.request(method, self.path, sent, headers)
        answer = self.lambda_.getresponse()
        return answer, answer.read()

    def reply(self, answer: http.client.HTTPResponse, body: bytes):
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def die_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}"}
    step = subprocess.Popen([Path(__file__).with_name("step")], env=environment, preexec_fn=die_with_parent)
    os._exit(step.wait())  # Lambda ends this process, or the step ends by itself


if __name__ == "__main__":
    main()

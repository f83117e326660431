"""As much of the AWS CLI as docs/runbook.md calls, on the emulator: tests/drills_suite.py puts it on the PATH as `aws`.

Options are those of the API's own description, so that what the API does not know is refused here, too. One command is played, because
the emulator takes no pattern for JSON lines.
"""
from __future__ import annotations

import contextlib
import datetime
import json
import re
import socketserver
import tempfile
import threading
from pathlib import Path

import botocore.session
import jmespath
from alarms_suite import matches
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

SECONDS = {"m": 60, "h": 3600, "d": 86_400}

# It only hands its words on, because loading what answers them takes a second.
COMMAND = """#!/usr/bin/env -S python3 -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as there:
    there.connect(os.path.join(os.path.dirname(__file__), "socket"))
    there.sendall((json.dumps(sys.argv[1:]) + "\\n").encode())
    code, said = json.loads(there.makefile().read())
print(said, file=sys.stderr if code else sys.stdout, end="")
sys.exit(code)
"""


class Refused(Exception):
    pass


@contextlib.contextmanager
def on_the_path():
    """A folder that has the command `aws`, for as long as this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        command = Path(folder) / "aws"
        command.write_text(COMMAND)
        command.chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(f"{folder}/socket", Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield folder
            server.shutdown()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            outcome = (0, answer(*json.loads(self.rfile.readline())))
        except (Refused, BotoCoreError, ClientError) as error:
            outcome = (254, f"{error}\n")
        self.wfile.write(json.dumps(outcome).encode())


def answer(service: str, operation: str, *words: str) -> str:
    if (service, operation) == ("logs", "tail"):
        return tail(*words)
    return call(service, operation, list(words))


def options(words, known: set[str]) -> dict[str, list[str]]:
    found, name = {}, ""
    for word in words:
        if re.match(r"--[a-z]", word):
            name = word
            found[name] = []
        elif name:
            found[name].append(word)
    if unknown := found.keys() - known:
        raise Refused(f"Unknown options: {', '.join(sorted(unknown))}")
    return found


def call(service: str, operation: str, words: list[str]) -> str:
    client = botocore.session.get_session().create_client(service)
    names = {method.replace("_", "-"): name for method, name in client.meta.method_to_api_mapping.items()}
    if operation not in names:
        raise Refused(f"aws {service}: there is no {operation}")
    file = words.pop() if (service, operation) == ("lambda", "invoke") else None
    members = client.meta.service_model.operation_model(names[operation]).input_shape.members
    spelt = {f"--{no}{xform_name(name, '-')}": name for name in members for no in ("", "no-")}
    given = options(words, {*spelt, "--query", "--output", "--max-items", "--cli-binary-format"})
    arguments = {spelt[name]: value(members[spelt[name]], words, name) for name, words in given.items() if name in spelt}
    found = getattr(client, operation.replace("-", "_"))(**arguments)
    del found["ResponseMetadata"]
    if file:
        if file != "/dev/stdout":
            raise Refused(f"{file} is no place for an answer here")
        return found["Payload"].read().decode() + "\n" + json.dumps({name: each for name, each in found.items() if name != "Payload"}, indent=4) + "\n"
    found = jmespath.search(given.get("--query", ["@"])[0], found)
    if found in ({}, None):
        return ""
    return (text(found) if given.get("--output") == ["text"] else json.dumps(found, indent=4, default=str)) + "\n"


def value(shape, words: list[str], name: str):
    kind = shape.type_name
    if kind == "boolean":
        return not name.startswith("--no-")
    if kind == "list" and not words[0].startswith("["):
        return words
    (word,) = words
    if kind in ("structure", "map", "list"):
        return json.loads(word)
    return int(word) if kind in ("integer", "long") else word.encode() if kind == "blob" else word


def text(found) -> str:
    """`--output text`: a line for each row, tabs between what stands in it."""
    rows = found if isinstance(found, list) else [found]
    if not any(isinstance(row, list) for row in rows):
        rows = [rows]
    return "\n".join("\t".join("None" if each is None else str(each) for each in row) for row in rows)


def tail(group: str, *words: str) -> str:
    given = options(words, {"--since", "--filter-pattern", "--format"})
    number, unit = re.fullmatch(r"(\d+)([mhd])", given["--since"][0]).groups()
    since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=int(number) * SECONDS[unit])
    (pattern,) = given.get("--filter-pattern", [""])
    message = re.fullmatch(r'\{ \$\.message = ("[^"]+") }', pattern)
    names = given.get("--format") != ["short"]
    return "".join(f"{when.isoformat(timespec='seconds')} {f'{stream} ' if names else ''}{text}\n"
                   for when, stream, text, line in lines(group, since, message[1] if message else "") if not pattern or matches(pattern, line))


def lines(group: str, since: datetime.datetime, words: str = "") -> list[tuple[datetime.datetime, str, str, dict]]:
    """What the log has with these words, each line with its stream, and also as what it says; of what the emulator writes itself that is nothing."""
    logs, begin, found = botocore.session.get_session().create_client("logs"), int(since.timestamp() * 1000), {}
    while True:
        events = logs.filter_log_events(logGroupName=group, startTime=begin, filterPattern=words)["events"]
        found |= {(event["timestamp"], event["logStreamName"], event["message"].strip()): None for event in events}
        if len(events) < 10_000:
            return [(datetime.datetime.fromtimestamp(at / 1000, datetime.timezone.utc), stream, message, said(message)) for at, stream, message in found]
        begin = max(begin + 1, events[-1]["timestamp"])  # the emulator gives no token for what does not fit into one answer


def said(message: str) -> dict:
    try:
        return json.loads(message)
    except ValueError:
        return {}

"""Receives the spans of the local stack's functions, and shows an order's as a waterfall.

A process beside the emulator's, which has enough to do, listens for them as a collector does (OTLP over HTTP, protobuf), and keeps
the newest in a file: one line of JSON for each span.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BYTES_MAX = 50_000_000  # of the file; then it is put aside, and the one that was put aside before is gone
BODY_MAX = 4_000_000
TRACES_MAX = 20  # that are shown of one order

SERVER, CLIENT, CONSUMER = 2, 3, 5  # kinds of spans, as OTLP numbers them


# ---------------------------------------------------------------- the receiver


def receive(file: Path) -> subprocess.Popen:
    """Has a process listen for as long as this one lives and keeps what is answered, and tells the functions where: they inherit
    this process's environment."""
    receiver = subprocess.Popen([sys.executable, __file__, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{receiver.stdout.readline().strip()}"
    return receiver


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    server.file, server.writing = Path(sys.argv[1]), threading.Lock()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()  # until whoever has started this is no more


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/v1/traces" or length > BODY_MAX:
            self.close_connection = True
            return self.answer(404 if length <= BODY_MAX else 413)
        lines = "".join(json.dumps(span) + "\n" for span in read(self.rfile.read(length)))
        with self.server.writing:
            file = self.server.file
            if file.exists() and file.stat().st_size > BYTES_MAX:
                file.replace(aside(file))
            with file.open("a") as out:
                out.write(lines)
        self.answer(200)

    def answer(self, status: int):
        self.send_response_only(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()


def aside(file: Path) -> Path:
    return file.with_suffix(".before.jsonl")


def read(document: bytes):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(document).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "trace": span.trace_id.hex(), "span": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "sampled": bool(span.flags & 1), "name": span.name, "kind": span.kind, "function": scope.scope.name,
                    "start": span.start_time_unix_nano, "end": span.end_time_unix_nano, "failed": span.status.code == 2,
                    "attributes": values(span.attributes), "resource": values(resource.resource.attributes),
                    "links": [{"trace": link.trace_id.hex(), "span": link.span_id.hex()} for link in span.links],
                }


def values(attributes) -> dict:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}


# ---------------------------------------------------------------- the waterfall


def kept(file: Path) -> list[dict]:
    files = [each for each in (aside(file), file) if each.exists()]
    return [json.loads(line) for each in files for line in each.read_text().splitlines()]


def show(file: Path, order_id: str) -> str:
    spans = kept(file)
    traces = []
    for span in spans:
        if span["attributes"].get("order.id") == order_id and span["trace"] not in traces:
            traces.append(span["trace"])
    # What was done for several orders at once has a trace of its own, which the parts in theirs name.
    for span in spans:
        if span["trace"] in traces:
            traces += [link["trace"] for link in span["links"] if link["trace"] not in traces]
    trees = [waterfall([span for span in spans if span["trace"] == trace]) for trace in traces[:TRACES_MAX]]
    return "\n\n".join(tree for tree in trees if tree)


def waterfall(spans: list[dict]) -> str:
    if not spans:
        return ""
    spans.sort(key=lambda span: span["start"])
    by_id, begin, tries = {span["span"]: span for span in spans}, spans[0]["start"], Counter()
    step_ended: dict[str, int] = {}  # by parent: one step waits for the one before
    lines = [f"trace {spans[0]['trace']}", f"{'at ms':>9} {'took ms':>9}"]

    def tell(span: dict, depth: int):
        parent = by_id.get(span["parent"])
        lines.append(f"{milliseconds(span['start'] - begin):>9} {milliseconds(span['end'] - span['start']):>9}  "
                     f"{'  ' * depth}{name(span)}{notes(span, parent, tries, step_ended)}")
        for child in spans:
            if child["parent"] == span["span"]:
                tell(child, depth + 1)

    for span in spans:
        if span["parent"] not in by_id:
            tell(span, 0)
    return "\n".join(lines)


def milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f}"


def name(span: dict) -> str:
    return span["name"] if is_call(span) or span["name"] == span["function"] else f"{span['function']}: {span['name']}"


def is_call(span: dict) -> bool:
    return span["kind"] == CLIENT


def notes(span: dict, parent: dict | None, tries: Counter, step_ended: dict[str, int]) -> str:
    said, attributes = [], span["attributes"]
    if parent and span["kind"] == CONSUMER:
        said.append(f"waited {milliseconds(span['start'] - parent['end'])} ms for the stream or a queue")
    elif parent and span["kind"] == SERVER:
        waited = span["start"] - step_ended.get(span["parent"], parent["end"])
        said.append(f"waited {milliseconds(waited)} ms for the state machine")
        step_ended[span["parent"]] = span["end"]
        tries[span["function"], span["parent"]] += 1
        if tries[span["function"], span["parent"]] > 1:
            said.append(f"try {tries[span['function'], span['parent']]}")
    if attributes.get("faas.coldstart"):
        said.append("cold start")
    if "server.address" in attributes:
        said.append(f"{attributes.get('rpc.system.name', '')} {attributes['server.address']}")
    if "http.response.status_code" in attributes:
        said.append(f"answered {attributes['http.response.status_code']}")
    if span["failed"]:
        said.append(f"FAILED: {attributes.get('error.type', '')}")
    return f"   ({', '.join(said)})" if said else ""


if __name__ == "__main__":
    main()

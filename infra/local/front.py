"""The HTTP side of `make watch`: serves the routes of infra/api.yaml from functions that `cargo lambda watch` runs.

For development only, and reachable from this machine only: it reads the claims of a bearer token WITHOUT verifying the
token. In the local stack and on AWS, API Gateway verifies tokens; functions are the same and know nothing of this file.
"""
from __future__ import annotations

import base64
import json
import re
import sys
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

TEMPLATE = Path(__file__).resolve().parents[1] / "api.yaml"
COMPILING = 600  # seconds that a call may wait, since the first one compiles the function


class Template(yaml.SafeLoader):
    """Reads a CloudFormation template; what its functions (!Ref, !Sub, ...) stand for does not matter here."""


Template.add_multi_constructor("!", lambda loader, tag, node: None)


def routes() -> list[dict]:
    resources = yaml.load(TEMPLATE.read_text(), Template)["Resources"]
    found = []
    for name, resource in resources.items():
        if resource["Type"] != "AWS::ApiGatewayV2::Route":
            continue
        method, path = resource["Properties"]["RouteKey"].split(" ")
        found.append({
            "key": f"{method} {path}",
            "method": method,
            "path": re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", re.sub(r"{(\w+)\+}", r"(?P<\1>.+)", path)) + "$"),
            "needs_token": resource["Properties"].get("AuthorizationType") == "JWT",
            "function": re.sub(r"(?<!^)(?=[A-Z])", "-", name.split("Route")[0]).lower(),
        })
    return found


def claims_of(authorization: str) -> dict[str, str] | None:
    """The claims in the form in which API Gateway hands them on: all strings, a list as "[a b]"."""
    try:
        payload = authorization.removeprefix("Bearer ").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        return {name: as_string(value) for name, value in claims.items()}
    except (IndexError, ValueError, AttributeError):
        return None


def as_string(value) -> str:
    if isinstance(value, list):
        return f"[{' '.join(map(as_string, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def event_of(request: BaseHTTPRequestHandler, route: dict, parameters: dict, claims: dict | None) -> dict:
    """An API Gateway event, payload format 2.0."""
    url, length = urlsplit(request.path), int(request.headers.get("Content-Length", 0))
    event = {
        "version": "2.0",
        "routeKey": route["key"],
        "rawPath": url.path,
        "rawQueryString": url.query,
        "headers": {name.lower(): ",".join(request.headers.get_all(name)) for name in request.headers},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "watch",
            "domainName": "localhost",
            "http": {"method": request.command, "path": url.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1",
                     "userAgent": request.headers.get("User-Agent", "")},
            "requestId": str(uuid.uuid4()),
            "routeKey": route["key"],
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime()),
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": False,
    }
    if parameters:
        event["pathParameters"] = parameters
    if url.query:
        event["queryStringParameters"] = {name: ",".join(values) for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    if length:
        event["body"] = request.rfile.read(length).decode(errors="replace")
    if claims:
        event["requestContext"]["authorizer"] = {"jwt": {"claims": claims, "scopes": claims.get("scope", "").split()}}
    return event


class Front(BaseHTTPRequestHandler):
    def serve(self):
        path = urlsplit(self.path).path
        for route in routes():
            match = route["path"].match(path)
            if match and route["method"] == self.command:
                claims = claims_of(self.headers.get("Authorization", "")) if route["needs_token"] else None
                if route["needs_token"] and not claims:
                    return self.answer(401, {"message": "Unauthorized"})
                return self.invoke(route["function"], event_of(self, route, match.groupdict(), claims))
        self.answer(404, {"message": "Not Found"})

    do_GET = do_POST = do_PUT = do_DELETE = serve

    def invoke(self, function: str, event: dict):
        url = f"http://127.0.0.1:{self.server.invoke_port}/2015-03-31/functions/{function}/invocations"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(event).encode()), timeout=COMPILING) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as error:
            return self.answer(502, {"message": error.read().decode(errors="replace")})
        except OSError as error:
            return self.answer(502, {"message": f"cargo lambda does not answer: {error}"})
        body = answer.get("body") or ""
        content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        self.send(answer.get("statusCode", 200), {"Content-Type": "application/json"} | (answer.get("headers") or {}), content)

    def answer(self, status: int, body: dict):
        self.send(status, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def send(self, status: int, headers: dict, content: bytes):
        self.send_response(status)
        for name, value in ({name.title(): value for name, value in headers.items()} | {"Content-Length": len(content)}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def main():
    port, invoke_port = map(int, sys.argv[1:])
    server = ThreadingHTTPServer(("127.0.0.1", port), Front)
    server.invoke_port = invoke_port
    print(f"Routes of infra/api.yaml on http://127.0.0.1:{port} (tokens are read, not verified)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

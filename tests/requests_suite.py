"""Sends the running service what api/openapi.yaml allows, and what it forbids, as Schemathesis makes it up.

What fits a schema is never refused for its form, what does not is never accepted, nothing answers 5xx, and every answer is as
the contract says. It is sent by three callers at once: by a supervisor, by a customer, and by somebody without a token. The
orders, products and customers that requests name are there, or everything would be a 404.

This file is both what starts Schemathesis and what Schemathesis loads (tests/schemathesis.toml). It runs with the libraries of
infra/local/schemathesis.txt, on a stack whose URL and tokens are in the environment:
API_URL=... STAFF_TOKEN=... CUSTOMER_TOKEN=... CUSTOMER_1_ID=... .local/tools/schemathesis/bin/python tests/requests_suite.py
"""
from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import schemathesis
from jsonschema_rs import Draft202012Validator
from schemathesis.core.parameters import ParameterLocation

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra"))

from service import Service, products  # noqa: E402

# How many requests each makes up for an operation, beside those that try each limit of each field. Most that customers and
# strangers may do is nothing.
CALLERS = {"staff": 40, "customer": 20, "nobody": 5}
TIME_LIMIT = 600  # seconds; it takes a sixth of that, and a third beside other work
# What is found when the contract says in six places what is not so: in which operation, and by which check.
SPOILED = {
    "GET /api/v1/orders/{order_id}/timeline": "Undocumented HTTP status code",
    "GET /metrics": "Undocumented Content-Type",
    "GET /api/v1/orders/{order_id}": "Response header does not conform to the schema",
    "GET /api/v1/products/{product_id}": "Response violates schema",
    "GET /api/v1/events": "Custom check failed: `what_the_schema_forbids_is_not_accepted`",
    "PUT /api/v1/products/{product_id}": "Custom check failed: `what_the_schema_allows_is_not_refused`",
}
# Of these there are always enough, and an order may have all of them. One more is there to be changed; those that are seeded are
# left alone, because others order them.
PRODUCTS = [f"requests-{number}" for number in range(100)]
CHANGED = "requests-changed"
# Whose dead letters are asked for. Nobody else on the stack waits for any, so something may be done with all of them.
CONSUMERS = ["project-orders", "publish-events", "start-fulfilment"]

# Why something that fits its schema may be a 400 all the same: rules that a schema cannot say, or not without a list as long as
# the world. Where the field is, and what is said about it.
UNSAID = [
    # What a text may be, goes by what Unicode says of its characters, and one counts as often as NFKC writes it out.
    (r"/\w+(/\w+)*|\?q", r"must not be empty|must have a character that can be seen|must not contain control characters"),
    (r"/\w+(/\w+)*|\?q", r"must be at most \d+ characters long, also where a character stands for several"),
    # Bytes, not characters.
    (r"/email", r"must be at most 254 bytes long|must be an e-mail address such as anna@example\.com"),
    (r"\?q", r"must be at least 3 characters long; a Chinese character may stand alone"),
    # One value is measured by another.
    (r"\?page", r"only the first \d+ can be paged through; ask for something narrower"),
    (r"\?to", r"must not be earlier than from|must be at most 31 days later than from"),
    (r"\?from", r"must be earlier than to, which is now unless it is given|must be no more than 366 (hours|days) before to"),
    (r"\?books", r"can be asked for with status=needs_attention only"),
    (r"\?page_size", r"must be a whole number from 1 to 10"),
    (r"/items", r"the order's total must not be above \d+"),
    (r"/items/\d+/product_id", r"stands there more than once"),
    # Consumers are what is deployed.
    (r"\?consumer|/consumer", r"must be one of [a-z-]+(, [a-z-]+)*"),
    # Only a link, a list or an answer has one.
    (r"\?after", r"must be as it came in the link to this page"),
    (r"/(id|after)", r"must be as it came"),
    # The caller decides, and a schema knows none.
    (r"/note", r"is for staff only"),
]


# ---------------------------------------------------------------- what Schemathesis loads


WORLD = json.loads(os.environ.get("WORLD", "{}"))  # who calls, and what is there
turns = itertools.count()
found: set[tuple[str, str]] = set()  # in which operation, and what


@schemathesis.hook
def before_load_schema(context, raw_schema: dict):
    """No correlation id is refused that is only one: what cannot be one is replaced. So anything may be sent."""
    parameters = raw_schema["components"]["parameters"]
    parameters["CorrelationId"]["schema"] = parameters["Traceparent"]["schema"]
    if WORLD["spoiled"]:
        spoil(raw_schema)


def spoil(contract: dict):
    """What SPOILED has to find, in its order."""
    schemas, parameters = contract["components"]["schemas"], contract["components"]["parameters"]
    del contract["paths"]["/api/v1/orders/{order_id}/timeline"]["get"]["responses"]["200"]
    figures = contract["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    figures["application/json"] = figures.pop("text/plain; version=0.0.4")
    contract["components"]["headers"]["ETag"]["schema"]["pattern"] = "^never$"
    del schemas["Product"]["properties"]["stock"]
    schemas["Product"]["required"].remove("stock")
    parameters["PageSize"]["schema"]["maximum"] = 99
    schemas["PutProduct"]["properties"]["stock"]["maximum"] += 1


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts what is there in the place of what only looks like it. What is wrong stays wrong: only what fits its schema is replaced."""
    if case.meta is None:
        return
    path = case.meta.components.get(ParameterLocation.PATH)
    if path is None or path.mode.is_positive:
        for name, value in case.path_parameters.items():
            case.path_parameters[name] = real_parameter(case.operation, name, value)
    query = case.meta.components.get(ParameterLocation.QUERY)
    if query is not None and query.mode.is_positive and "consumer" in case.query:
        case.query["consumer"] = CONSUMERS[next(turns) % len(CONSUMERS)]
    if isinstance(case.body, (dict, list)):
        case.body = real(case.body)


def real_parameter(operation, name: str, value):
    turn = next(turns)
    if name == "order_id":
        deed = operation.path.rsplit("/")[-1]
        orders = WORLD[{"cancel": "cancelled", "resume": "stuck", "skip": "stuck"}.get(deed, "orders")]
        return orders[turn % len(orders)]
    if name == "customer_id":
        return ["me", WORLD["customer"], value][turn % 3]
    if name == "product_id" and operation.method == "get":
        return PRODUCTS[turn % len(PRODUCTS)]
    if name == "product_id" and (operation.method == "post" or value in [*PRODUCTS, *WORLD["seeded"]]):
        return CHANGED
    return value


def real(value, name: str = "", index: int = 0):
    if isinstance(value, dict):
        return {key: real(child, key, index) for key, child in value.items()}
    if isinstance(value, list):
        return [real(child, name, number) for number, child in enumerate(value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON Schema has 2.0 for a whole number, and the contract wants it written as 2
    if not isinstance(value, str):
        return value
    if name == "country" and re.fullmatch("[A-Z]{2}", value):
        return "GI"  # where an address has to have nothing but a street
    if name == "currency" and re.fullmatch("[A-Z]{3}", value):
        return "CNY"
    if name == "consumer" and re.fullmatch("[a-z0-9-]{1,64}", value):
        return CONSUMERS[next(turns) % len(CONSUMERS)]
    if name == "customer_id" and re.fullmatch("[ -~]{1,255}", value) and WORLD["caller"] == "customer":
        return WORLD["customer"]
    if name == "product_id" and re.fullmatch("[A-Za-z0-9._-]{1,64}", value) and index < len(PRODUCTS):
        return PRODUCTS[index]
    return value


@schemathesis.hook
def filter_failure(context, failure, case, response) -> bool:
    """API Gateway knows no route for a name that is empty or has a slash, however it is encoded."""
    names = [unquote(str(value)) for value in case.path_parameters.values()]
    has_route = all(name and "/" not in name for name in names)
    counts = has_route or response.status_code != 404 or "message" not in json_of(response)
    if counts:
        found.add((case.operation.label, failure.title))
    return counts


def json_of(response) -> dict:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def is_for(operation, caller: str) -> bool:
    raw = operation.definition.raw
    needed = raw.get("security", operation.schema.raw_schema["security"])
    return not needed or caller == "staff" or caller == "customer" and {"token": ["customer"]} in needed


@schemathesis.check
def nothing_answers_5xx(ctx, response, case):
    waits = response.status_code == 503 and "min_version" in case.query and "is not there yet" in json_of(response).get("detail", "")
    assert response.status_code < 500 or waits and "retry-after" in response.headers, f"answered {response.status_code}"


@schemathesis.check
def what_the_schema_allows_is_not_refused(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 405, 406, 413, 415):
        return
    problem = json_of(response)
    said = [(error["pointer"], error["detail"]) for error in problem.get("errors", [])] or [("", problem.get("type", ""))]
    for pointer, detail in said:
        known = any(re.fullmatch(where, pointer) and re.fullmatch(what, detail) for where, what in UNSAID)
        assert known, f"refused with {response.status_code}: {pointer} {detail}"


@schemathesis.check
def what_the_schema_forbids_is_not_accepted(ctx, response, case):
    if case.meta is None or case.meta.generation.mode.is_positive or fits_as_sent(case, response):
        return
    assert response.status_code >= 400, f"accepted with {response.status_code}"


def fits_as_sent(case, response) -> bool:
    """Whether nothing is wrong any more with a request that is wrong as Schemathesis has made it: in paths, queries and headers
    everything is text, and headers that the contract does not name are nobody's business."""
    wrong = {location for location, component in case.meta.components.items() if component.mode.is_negative}
    has_body = "requestBody" in case.operation.definition.raw
    if ParameterLocation.BODY in wrong or has_body and response.request.headers.get("Content-Type") != "application/json":
        return False
    query = parse_qs(urlsplit(response.request.url).query, keep_blank_values=True)
    sent = [
        (case.operation.path_parameters, {name: unquote(str(value)) for name, value in case.path_parameters.items()}),
        (case.operation.query, {name: texts[0] if len(texts) == 1 else texts for name, texts in query.items()}),
        (case.operation.headers, {one.name: response.request.headers[one.name] for one in case.operation.headers
                                  if one.name in response.request.headers}),
    ]
    return all(fits(parameters.schema, values) for parameters, values in sent)


def fits(schema: dict, values: dict) -> bool:
    read = {name: as_read(schema.get("properties", {}).get(name, {}), text) for name, text in values.items()}
    return Draft202012Validator(schema, validate_formats=True).is_valid(read)


def as_read(schema: dict, text):
    types = [one.get("type") for one in [schema, *schema.get("anyOf", [])]]
    if "boolean" in types and text in ("true", "false"):
        return text == "true"
    return int(text) if "integer" in types and isinstance(text, str) and re.fullmatch(r"\d{1,30}", text) else text


@schemathesis.check
def each_caller_gets_what_is_theirs(ctx, response, case):
    if is_for(case.operation, WORLD["caller"]):
        assert response.status_code not in (401, 403), f"refused with {response.status_code}"
    elif WORLD["caller"] == "nobody":
        assert response.status_code in (401, 404), f"answered {response.status_code} to nobody"
    else:
        assert 400 <= response.status_code < 500, f"answered {response.status_code} to a customer"


@schemathesis.check
class Figures:
    """What was answered; and that each operation has accepted something, or nothing would be known of it."""

    def __init__(self):
        # By the id of a request, so that one that is sent again while a failure is looked into counts once.
        self.answered, self.open_to_caller, self.accepted = {}, set(), set()

    def after_response(self, ctx, response, case):
        if case.meta is None:
            return
        valid, operation = case.meta.generation.mode.is_positive, case.operation.label
        self.answered[case.id] = ("valid" if valid else "invalid", response.status_code)
        if is_for(case.operation, WORLD["caller"]):
            self.open_to_caller.add(operation)
        if valid and response.status_code < 400:
            self.accepted.add(operation)

    def after_run(self, ctx):
        figures = {"open": sorted(self.open_to_caller), "answered": sorted(self.answered.values()), "found": sorted(found)}
        Path(os.environ["FIGURES"]).write_text(json.dumps(figures))
        never = self.open_to_caller - self.accepted
        assert not never, f"never accepted: {', '.join(sorted(never))}"


# ---------------------------------------------------------------- what starts it


def prepared(service: Service, customer: str) -> dict:
    """Puts there what requests name."""
    plenty = {"name": "Tea", "price": {"amount": 10**8, "currency": "CNY"}, "stock": 2**32 - 1}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(service.put_product, [plenty | {"id": product} for product in [*PRODUCTS, CHANGED]]))
        orders, cancelled = (list(pool.map(lambda _: service.place(customer, PRODUCTS[:2]), range(count))) for count in (6, 2))
        stuck = list(pool.map(lambda _: service.place(customer, PRODUCTS[:1], "pm_refund_fails"), range(3)))
    for order in [*orders, *cancelled, *stuck]:
        wait_for(service, order, "confirmed")
    for order in stuck:
        service.expect([202], "POST", f"/api/v1/orders/{order}/cancel", {"reason": "the refund of this one fails"})
        wait_for(service, order, "needs_attention")
    return {"orders": orders, "cancelled": cancelled, "stuck": stuck, "customer": customer, "seeded": [product["id"] for product in products()]}


def wait_for(service: Service, order: str, status: str):
    deadline = time.monotonic() + 60
    while (seen := service.call("GET", f"/api/v1/orders/{order}")[1].get("status")) != status:
        if time.monotonic() > deadline:
            sys.exit(f"error: order {order} is {seen} and not {status} after a minute")
        time.sleep(0.2)


def send(caller: str, world: dict, spoiled: bool = False) -> tuple[str, dict]:
    """Runs Schemathesis as this caller: what it printed if something is wrong, and its figures."""
    token = os.environ.get(f"{caller.upper()}_TOKEN")
    call = [Path(sys.executable).with_name("st"), "--config-file", "tests/schemathesis.toml", "run", "api/openapi.yaml",
            "--url", os.environ["API_URL"], "--max-examples", str(CALLERS[caller])]
    call += ["--header", f"Authorization: Bearer {token}"] if token else []
    call += [f"--include-name={operation}" for operation in SPOILED] if spoiled else []
    with tempfile.NamedTemporaryFile("r") as figures:
        given = {"WORLD": json.dumps(world | {"caller": caller, "spoiled": spoiled}), "FIGURES": figures.name,
                 "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".local" / "hypothesis")}
        try:
            done = subprocess.run(call, cwd=ROOT, env=os.environ | given, timeout=TIME_LIMIT, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired:
            # What Python would print has the token.
            raise SystemExit(f"error: Schemathesis takes more than {TIME_LIMIT} s as {caller}") from None
        written = figures.read()
    if not written:
        sys.exit(f"error: Schemathesis did not get to its end as {caller}:\n{done.stdout}")
    return done.stdout if done.returncode else "", json.loads(written)


def told(caller: str, figures: dict) -> str:
    answers = Counter(map(tuple, figures["answered"]))
    lines = [f"{caller}: {len(figures['open'])} operations are open to them, {answers.total()} requests were answered"]
    for form in ("valid", "invalid"):
        statuses = [f"{status}: {times}" for (of, status), times in sorted(answers.items()) if of == form]
        lines.append(f"    {form:<8} {', '.join(statuses)}")
    return "\n".join(lines)


def main():
    begin = time.monotonic()
    world = prepared(Service(os.environ["API_URL"], os.environ["STAFF_TOKEN"]), os.environ["CUSTOMER_1_ID"])
    failed = False
    with concurrent.futures.ThreadPoolExecutor() as pool:
        spoiled = pool.submit(send, "staff", world, spoiled=True)
        for caller, (output, figures) in zip(CALLERS, pool.map(lambda caller: send(caller, world), CALLERS)):
            print(output, told(caller, figures), sep="")
            failed |= bool(output)
    missed = set(SPOILED.items()) - set(map(tuple, spoiled.result()[1]["found"]))
    if missed:
        print(f"a contract that is wrong there would be taken for right: {sorted(missed)}")
    print(f"It took {time.monotonic() - begin:.0f} s")
    sys.exit(failed or bool(missed))


if __name__ == "__main__":
    main()

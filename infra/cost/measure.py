"""Says what an order costs: places orders of each kind on the running local stack, and counts what AWS would charge for.

`make cost` prints it, `make -s cost JSON=1` as JSON. meter.py counts within the emulator; prices.json has what a unit costs and
what is assumed, budget.json what an order may use. docs/cost.md says how to read the figures.

Orders come one after the other, each of a customer with a profile and no other order, when the functions are warm. The stream
hands over one commit at a time, as AWS does while commits come slowly, so that no figure hangs on how busy this machine is;
the schedules rest meanwhile. stack.py runs this with the emulator's libraries.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import functools
import json
import re
import signal
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "infra"), str(ROOT / "infra" / "local")]

import yaml  # noqa: E402
from aws import STATE, client, password, service, stack_environment, token_of  # noqa: E402
from service import Service  # noqa: E402

HERE = Path(__file__).parent
PRICES = json.loads((HERE / "prices.json").read_text())
ASSUMED = PRICES["assumptions"]
BUDGET = HERE / "budget.json"
METER = STATE / "meter.jsonl"  # as in stack.py
STACK = "order-service-local"
PATIENCE = 60  # seconds that anything may take that an order or the stack is waited for
QUIET = 1.5  # seconds without a call or an invocation, after which nothing more is on its way
SCHEDULES = ["ReconcileRule", "ReconcileReminder", "CompareBooksRule"]
GENERATIONS = {"key": {"S": "generations"}}  # the item that says which generation of the read model is read
MILLION = 1_000_000

# What the budget holds: what was counted. Durations and what follows from other units are left out.
BUDGETED = ["dynamodb_write_units", "dynamodb_read_units", "state_transitions", "express_requests", "lambda_invocations", "bus_events",
            "queue_requests", "api_requests", "log_bytes"]
# More than this is too much: everything repeats to a part in a thousand.
TOO_MUCH = 1.02
# Less than that, and the budget says nothing any more: what somebody has saved could be lost again unseen.
TOO_LITTLE = 0.9

KINDS = {
    "happy": "placed, confirmed, and read twice",
    "cancelled": "cancelled by the customer after its parcel was booked, and undone",
    "declined": "the payment is declined, the stock released",
    "refunded": "a part of the payment is given back by staff",
    "resumed": "cancelled, its refund refused, and let go on by staff when the provider has changed its mind",
}


# ---------------------------------------------------------------- the stack while it is measured


@contextlib.contextmanager
def measured_stack():
    """Has everything counted, one commit at a time and without schedules, and leaves the stack as it was."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    functions, events = client("lambda"), client("events")
    mappings = functions.list_event_source_mappings()["EventSourceMappings"]
    mappings = [mapping for mapping in mappings if ":dynamodb:" in mapping["EventSourceArn"]]
    rules = [resource["PhysicalResourceId"].rpartition("|")[2] for resource in resources() if resource["LogicalResourceId"] in SCHEDULES]
    with METER.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("error: another `make cost` is at work on this stack")
        try:
            for rule in rules:
                events.disable_rule(Name=rule)
            for mapping in mappings:
                functions.update_event_source_mapping(UUID=mapping["UUID"], BatchSize=1)
            yield
        finally:
            METER.unlink(missing_ok=True)
            for mapping in mappings:
                functions.update_event_source_mapping(UUID=mapping["UUID"], BatchSize=mapping["BatchSize"])
            for rule in rules:
                events.enable_rule(Name=rule)


def resources() -> list[dict]:
    return client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]


def lines_since(offset: int) -> list[dict]:
    with METER.open() as file:
        file.seek(offset)
        return [json.loads(line) for line in file]


def settle(what: str):
    """Waits until nothing more happens."""
    deadline, size, since = time.monotonic() + PATIENCE, -1, time.monotonic()
    while time.monotonic() - since < QUIET:
        if time.monotonic() > deadline:
            sys.exit(f"error: the stack did not come to rest within {PATIENCE} s {what}; something else is at work on it")
        if METER.stat().st_size != size:
            size, since = METER.stat().st_size, time.monotonic()
        time.sleep(0.1)


# ---------------------------------------------------------------- orders


class Shop:
    """Customers, products and staff that nobody else has, and one order for each customer."""

    def __init__(self):
        self.environment = stack_environment()
        self.dynamodb, self.cognito = client("dynamodb"), client("cognito-idp")
        self.staff = service("staff-1")
        self.products = [f"cost-{uuid.uuid4()}" for _ in range(2)]
        self.users: list[str] = []

    def open(self):
        for product in self.products:
            price = {"amount": 12900, "currency": "CNY"}
            self.staff.put_product({"id": product, "name": "Longjing green tea, 250 g", "price": price, "stock": 10_000})

    def close(self):
        """Orders stay in the books, as every order does; who made them and what of goes."""
        for user in self.users:
            self.cognito.admin_delete_user(UserPoolId=self.environment["USER_POOL_ID"], Username=user)
        for product in self.products:
            self.dynamodb.delete_item(TableName=self.environment["INVENTORY_TABLE"], Key={"id": {"S": product}})

    def customers(self, count: int) -> list[tuple[Service, str]]:
        return [self.customer() for _ in range(count)]

    def customer(self) -> tuple[Service, str]:
        """One with a profile, and their id."""
        user, pool = f"cost-{uuid.uuid4()}", self.environment["USER_POOL_ID"]
        made = self.cognito.admin_create_user(UserPoolId=pool, Username=user, MessageAction="SUPPRESS")["User"]
        self.users.append(user)
        self.cognito.admin_set_user_password(UserPoolId=pool, Username=user, Password=password(), Permanent=True)
        customer = Service(self.environment["API_URL"], token_of(user))
        customer.expect([201], "PUT", "/api/v1/customers/me", {"first_name": "Anna", "last_name": "Lindqvist", "email": "anna@example.com"})
        return customer, next(attribute["Value"] for attribute in made["Attributes"] if attribute["Name"] == "sub")

    def order(self, kind: str, customer: Service, customer_id: str) -> str:
        """Takes one order all the way, and returns its id."""
        method = {"declined": "pm_card_declined", "resumed": "pm_refund_fails"}.get(kind, "pm_card_visa")
        order = customer.place(customer_id, self.products, method)
        path = f"/api/v1/orders/{order}"
        if kind == "declined":
            self.wait_for(order, "OrderRejected")
            return order
        self.wait_for(order, "OrderConfirmed")
        if kind in ("cancelled", "resumed"):
            customer.expect([202], "POST", f"{path}/cancel", {"reason": "changed my mind"})
        if kind == "refunded":
            refund = {"amount": {"amount": 1000, "currency": "CNY"}, "reason": "one packet was damaged"}
            self.staff.expect([202], "POST", f"{path}/refunds", refund)
            self.wait_for(order, "RefundCompleted")
        if kind == "resumed":
            self.wait_for(order, "OrderFlagged")
            self.let_refund(order)
            self.staff.expect([202], "POST", f"{path}/fulfilment/resume", {"reason": "the bank takes it now"})
        if kind in ("cancelled", "resumed"):
            self.wait_for(order, "OrderCancelled")
        return order

    def wait_for(self, order: str, event: str):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            commits = self.dynamodb.query(TableName=self.environment["EVENTS_TABLE"], ConsistentRead=True,
                                          KeyConditionExpression="#stream = :stream", ExpressionAttributeNames={"#stream": "stream"},
                                          ExpressionAttributeValues={":stream": {"S": f"order#{order}"}})["Items"]
            if event in [kind["S"] for commit in commits for kind in commit["event_types"]["L"]]:
                return
            time.sleep(0.05)
        sys.exit(f"error: {order} has no {event} within {PATIENCE} s")

    def let_refund(self, order: str):
        """Changes the sandbox's mind: what it refused, it would refuse for ever."""
        table, keys = self.environment["PAYMENTS_TABLE"], {":order": {"S": order}}
        for entry in self.dynamodb.query(TableName=table, KeyConditionExpression="order_id = :order", ExpressionAttributeValues=keys)["Items"]:
            if entry.get("payment_method") == {"S": "pm_refund_fails"}:
                self.dynamodb.put_item(TableName=table, Item=entry | {"payment_method": {"S": "pm_card_visa"}})


# ---------------------------------------------------------------- what the templates say


class Template(yaml.SafeLoader):
    """Reads a template's own tags as nothing: nothing is asked for that a parameter decides."""


Template.add_multi_constructor("!", lambda loader, tag, node: None)


@functools.cache
def template(path: str) -> dict:
    return yaml.load((ROOT / path).read_text(), Template)


def platform_lines() -> list[str]:
    """What Lambda writes of itself for an invocation that goes well."""
    level = template("template.yaml")["Globals"]["Function"]["LoggingConfig"]["SystemLogLevel"]
    return [] if level == "WARN" else ASSUMED["platform_lines"]


def restorable() -> set[str]:
    """The tables with point-in-time recovery, as they are called here."""
    tables = template("template.yaml")["Resources"].items()
    return {name.removesuffix("Table").lower() for name, table in tables if "PointInTimeRecoverySpecification" in table["Properties"]}


# ---------------------------------------------------------------- what was used


def measure(shop: Shop, kind: str, count: int) -> dict:
    """What one order of this kind uses, on average."""
    customers = shop.customers(count)
    settle("before orders were placed")
    begin = METER.stat().st_size
    orders = [shop.order(kind, *customer) for customer in customers]
    settle("after orders were placed")
    if METER.stat().st_size == begin:
        sys.exit("error: the emulator counts nothing; it was started before it could. `make down` and `make up` start it anew")
    wanted = {"declined": "rejected", "cancelled": "cancelled", "resumed": "cancelled"}.get(kind, "confirmed")
    for order, (customer, _) in zip(orders, customers):
        for _ in range(2):
            status = customer.expect([200], "GET", f"/api/v1/orders/{order}")[1]["status"]
            if status != wanted:
                sys.exit(f"error: {order} is {status}, not {wanted}: it is no example of a {kind} order")
    settle("after orders were read")
    return used(lines_since(begin), executions_of(orders), count)


def used(lines: list[dict], executions: dict[str, float], count: int) -> dict:
    """Adds up what was counted, for one of so many orders.

    What each warm process does once in five seconds, however many orders there are, is kept apart: it counts what it has done, tells of itself, and
    asks which generation of the read model is read.
    """
    units, detail, apart = collections.Counter(executions), collections.defaultdict(collections.Counter), collections.Counter()
    took: dict[str, list[int]] = collections.defaultdict(list)
    for line in lines:
        function = line.get("function", "").removeprefix(f"{STACK}-")
        if line["what"] == "call":
            for unit in ("write_units", "read_units", "stored_bytes"):
                for table, amount in line.get(unit, {}).items():
                    table = re.sub(rf"^{STACK}-|Table-\w+$", "", table).lower()
                    if table == "counters" or line.get("key") == GENERATIONS:
                        apart[unit] += amount
                        continue
                    detail[unit][table] += amount
                    if unit != "stored_bytes":
                        units[f"dynamodb_{unit}"] += amount
            units["bus_events"] += line.get("events", 0)
            if line["service"] == "sqs":
                units["queue_requests"] += 1
            detail["calls"][f"{line['service']}:{line['operation']}"] += 1
        elif line["what"] == "message":
            units["queue_requests"] += line["requests"]
        else:
            source = line["source"]
            units["lambda_invocations"] += 1
            units["lambda_gb_seconds"] += line["memory"] / 1024 * ASSUMED["billed_ms"][source] / 1000
            took[source].append(line["ms"])
            apart["log_bytes"] += line["log_bytes_apart"]
            units["log_bytes"] += line["log_bytes"] + line["log_lines"] * ASSUMED["line_overhead_bytes"]
            units["platform_log_bytes"] += sum(len(text.encode()) + ASSUMED["line_overhead_bytes"] for text in platform_lines())
            detail["invocations"][function] += 1
            detail["log_bytes"][function] += line["log_bytes"] + line["log_lines"] * ASSUMED["line_overhead_bytes"]
            if source == "http":
                units["api_requests"] += 1
                units["access_log_bytes"] += len(ASSUMED["access_line"].encode()) + ASSUMED["line_overhead_bytes"]
                units["traces"] += ASSUMED["sampled"] + ASSUMED["recorded"]
            if source == "sqs":
                units["queue_requests"] += 2  # Lambda's receive, and its delete
            if line["failed"]:
                detail["failed"][function] += 1
    units["traces"] += ASSUMED["sampled"] * units.pop("executions", 0)

    def share(counter: collections.Counter) -> dict[str, float]:
        return {name: round(amount / count, 9) for name, amount in sorted(counter.items())}

    return {
        "units": share(units),
        "detail": {name: share(counter) for name, counter in sorted(detail.items())},
        "measured_ms": {source: round(sum(each) / len(each), 1) for source, each in sorted(took.items())},
        "apart": share(apart),
    }


def executions_of(orders: list[str]) -> dict[str, float]:
    """State transitions of Standard executions; starts, time and memory of Express ones."""
    states, units = client("stepfunctions"), collections.Counter()
    for machine in states.list_state_machines()["stateMachines"]:
        listed = states.get_paginator("list_executions").paginate(stateMachineArn=machine["stateMachineArn"])
        for execution in (execution for page in listed for execution in page["executions"]):
            if not execution["name"].startswith(tuple(orders)):
                continue
            units["executions"] += 1
            pages = states.get_paginator("get_execution_history").paginate(executionArn=execution["executionArn"])
            history = collections.Counter(event["type"] for page in pages for event in page["events"])
            if machine["type"] == "EXPRESS":
                units["express_requests"] += 1
                units["express_gb_seconds"] += express_gb_seconds(history)
            else:
                units["state_transitions"] += transitions(history)
    return units


def tries_of_tasks(history: collections.Counter) -> int:
    return history["TaskScheduled"] + history["LambdaFunctionScheduled"]


def transitions(history: collections.Counter) -> int:
    """Each state that was entered, and each try of a task after its first."""
    entered = sum(count for kind, count in history.items() if kind.endswith("StateEntered"))
    return entered + max(0, tries_of_tasks(history) - history["TaskStateEntered"])


def express_gb_seconds(history: collections.Counter) -> float:
    """In the smallest step of memory, 64 MB, and begun steps of 100 ms. The pauses before what is tried again are left out."""
    tenths = -(-tries_of_tasks(history) * ASSUMED["express_ms_a_try"] // 100)
    return max(1, tenths) * 0.1 * 64 / 1024


def priced(units: dict[str, float]) -> dict[str, float]:
    """Dollars for a million, by service."""
    services: dict[str, float] = {}
    for unit, price in PRICES["per_order"].items():
        services[price["service"]] = services.get(price["service"], 0) + units.get(unit, 0) * price["usd"] / price["per"] * MILLION
    return {name: round(amount, 2) for name, amount in services.items() if amount}


def kind_of(measured: dict) -> dict:
    services = priced(measured["units"])
    return {"usd_per_million": round(sum(services.values()), 2), "services": services} | measured


# ---------------------------------------------------------------- what stands still, and what is kept


def reconcile_run() -> dict:
    """What one run uses while nothing waits for it, as its schedule asks for it."""
    begin = METER.stat().st_size
    client("lambda").invoke(FunctionName=f"{STACK}-reconcile", Qualifier="live", Payload=b"{}")
    settle("after a run of reconcile")
    lines = [line | ({"source": "schedule"} if line.get("source") == "call" else {}) for line in lines_since(begin)]
    return used([line for line in lines if line.get("function") == f"{STACK}-reconcile"], {}, 1)


def standing(run: dict) -> dict[str, float]:
    """Dollars a month while there is no order at all."""
    month, watching = PRICES["per_month"], what_watches()
    hours = ASSUMED["hours_a_month"]
    queues = sum(":sqs:" in mapping["EventSourceArn"] for mapping in client("lambda").list_event_source_mappings()["EventSourceMappings"])
    polls = queues * ASSUMED["pollers"] * hours * 3600 / ASSUMED["poll_seconds"]
    runs = hours * 12 + hours / 4  # every five minutes, and the reminder every four hours
    price = PRICES["per_order"]["queue_requests"]
    return {
        f"{watching['alarms']} alarms on {watching['watched']} metrics": round(watching["watched"] * month["alarm"]["usd"], 2),
        f"{watching['metrics']} metrics made of log lines": round(watching["metrics"] * month["custom_metric"]["usd"], 2),
        f"{watching['dashboards']} dashboard": round(watching["dashboards"] * month["dashboard"]["usd"], 2),
        f"polling of {queues} queues, {polls:,.0f} requests": round(polls * price["usd"] / price["per"], 2),
        f"reconcile, {runs:,.0f} runs": round(sum(priced(run["units"]).values()) * runs / MILLION, 2),
        "polling of the event table's stream": 0.0,
    }


def what_watches() -> dict[str, int]:
    found = [resource for path in ("template.yaml", "infra/alarms.yaml") for resource in template(path)["Resources"].values()]
    # Those of a version that is being deployed are not counted: a stage that goes over at once has none.
    alarms = [resource["Properties"] for resource in found
              if resource["Type"] == "AWS::CloudWatch::Alarm" and resource.get("Condition") != "CallsGoOverGradually"]
    made = {metric["MetricName"] for resource in found if resource["Type"] == "AWS::Logs::MetricFilter"
            for metric in resource["Properties"]["MetricTransformations"]}
    return {"alarms": len(alarms),
            # An expression is paid for by the metrics in it, and is none itself.
            "watched": sum(sum("MetricStat" in one for one in alarm.get("Metrics", [])) or 1 for alarm in alarms),
            "metrics": len(made),
            "dashboards": sum(resource["Type"] == "AWS::CloudWatch::Dashboard" for resource in found)}


def kept(measured: dict) -> dict:
    """Dollars a month for what a million such orders leave behind."""
    month, stored = PRICES["per_month"], measured["detail"]["stored_bytes"]
    gb = {table: size * MILLION / 1e9 for table, size in stored.items()}
    logs = sum(size for unit, size in measured["units"].items() if unit.endswith("log_bytes")) * MILLION / 1e9
    return {
        "bytes_per_order": stored,
        "table_gb": round(sum(gb.values()), 3),
        "tables_usd": round(sum(gb.values()) * month["table_gb"]["usd"], 2),
        "point_in_time_recovery_usd": round(sum(gb[table] for table in gb.keys() & restorable()) * month["point_in_time_recovery_gb"]["usd"], 2),
        "log_gb": round(logs, 3),
        "logs_usd": round(logs * ASSUMED["log_compression"] * month["log_gb"]["usd"], 2),
    }


# ---------------------------------------------------------------- what is shown, and what is held


def show(result: dict):
    prices = f"{PRICES['region']}, {PRICES['architecture']}, {PRICES['date']} (infra/cost/prices.json)"
    print(f"List prices of {prices}. Means of {result['orders']} orders.")
    for kind, found in result["kinds"].items():
        print(f"\n{kind}: {KINDS[kind]}\n")
        print(f"  {'':<18} {'an order uses':>16}   {'price':>22}   {'$ per million orders':>20}")
        for unit, price in PRICES["per_order"].items():
            amount = found["units"].get(unit, 0)
            if amount:
                cost = amount * price["usd"] / price["per"] * MILLION
                print(f"  {price['service']:<18} {amount:>16,.6g}   {price['usd']:>11.10g} / {price['per']:<10,}  {cost:>18,.2f}   {unit}")
        print(f"  {'':<18} {'':>16}   {'':>22}   {found['usd_per_million']:>20,.2f}")
        for name in ("write_units", "read_units", "invocations"):
            print(f"  {name}: " + ", ".join(f"{what} {amount:,.6g}" for what, amount in found["detail"].get(name, {}).items()))
        took = (f"{source} {ASSUMED['billed_ms'][source]} and {ms:.0f}" for source, ms in found["measured_ms"].items())
        print("  ms of an invocation, as assumed and as the emulator took: " + ", ".join(took))
        apart = ", ".join(f"{unit} {amount:.3g}" for unit, amount in found["apart"].items() if amount)
        print(f"  apart, what each warm process does once in 5 s: {apart}")
    if result["month"]:
        print("\nA month without an order\n")
        for what, cost in result["month"].items():
            print(f"  {what:<60} {cost:>8.2f}")
        print(f"  {'':<60} {sum(result['month'].values()):>8.2f}")
        keep = result["kept"]
        print("\nWhat a million happy orders leave behind, a month\n")
        for what, cost in [(f"tables, {keep['table_gb']} GB", keep["tables_usd"]),
                           ("point-in-time recovery, prod", keep["point_in_time_recovery_usd"]),
                           (f"log lines, {keep['log_gb']} GB before compression, while they are kept", keep["logs_usd"])]:
            print(f"  {what:<60} {cost:>8.2f}")
        print("  bytes an order: " + ", ".join(f"{table} {size:,.0f}" for table, size in keep["bytes_per_order"].items()))


def beside_budget(kinds: dict) -> list[str]:
    """What does not keep to the budget."""
    wrong = []
    budget = json.loads(BUDGET.read_text())
    for kind, found in kinds.items():
        for unit, most in budget[kind].items():
            amount = found["units"].get(unit, 0)
            if amount > most * TOO_MUCH:
                more = f"{amount - most:,.6g} ({(amount / most - 1) if most else 1:.1%})"
                wrong.append(f"{kind}: {unit} are {amount:,.6g} an order, {more} above the budget of {most:,.6g}")
            elif amount < most * TOO_LITTLE:
                less = f"{1 - amount / most:.1%}"
                wrong.append(f"{kind}: {unit} are {amount:,.6g} an order, {less} below the budget of {most:,.6g}: bring the budget down to keep that")
    return wrong


def main():
    parser = argparse.ArgumentParser(description="What an order costs")
    parser.add_argument("--orders", type=int, default=20, help="of each kind, at most 100")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--budget", choices=["check", "write"], help="compare with budget.json, or write it anew")
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    if not set(kinds) <= set(KINDS) or not 1 <= arguments.orders <= 100:
        parser.error(f"kinds are {', '.join(KINDS)}; orders are 1 to 100")
    shop = Shop()
    with measured_stack():
        try:
            shop.open()
            for kind in kinds:  # what is read once by each process, and kept, is read now
                shop.order(kind, *shop.customer())
            result = {"orders": arguments.orders, "kinds": {kind: kind_of(measure(shop, kind, arguments.orders)) for kind in kinds}}
            result["month"] = {} if arguments.budget == "check" else standing(reconcile_run())
        finally:
            shop.close()
    if "happy" in kinds:
        result["kept"] = kept(result["kinds"]["happy"])
    if arguments.budget == "write":
        held = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
        held |= {kind: {unit: round(found["units"].get(unit, 0), 2) for unit in BUDGETED} for kind, found in result["kinds"].items()}
        BUDGET.write_text(json.dumps(held, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    if arguments.budget == "check" and (wrong := beside_budget(result["kinds"])):
        sys.exit("\n  ".join(["error: orders do not keep to infra/cost/budget.json (`make cost ORDERS=60 BUDGET=write` writes it anew):", *wrong]))


if __name__ == "__main__":
    main()

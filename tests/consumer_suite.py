"""Tries the example consumers (clients/consumer) beside the running local stack: what comes again, in no order, or cannot be handled.

Customers get points for what they have paid. One order among many is in a currency that the consumers have no rate for: all others have to
get through as fast as without it, and that one lies in the dead-letter queue, until a rate is deployed and the queue is redriven.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/consumer_suite.py --orders=30 --languages rust typescript
"""
from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import functools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "infra"), str(ROOT / "infra" / "local")]

import botocore.session  # noqa: E402
import stack  # noqa: E402
from service import Service  # noqa: E402

KIT = ROOT / "clients" / "consumer"
PRICE, RATE, RETRY_AFTER = 1999, 100, 10
PACE = 5  # orders a second, which a stack on two cores keeps up with
MINUTE = 60


@functools.cache
def client(service: str):
    return botocore.session.get_session().create_client(service)


def environment() -> dict[str, str]:
    return {name: value.strip('"') for name, value in (line.split("=", 1) for line in stack.STACK_ENV.read_text().splitlines())}


def wait(what: str, found: Callable, seconds: float = 2 * MINUTE):
    """What is found at last, which is not nothing."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        if time.monotonic() > deadline:
            sys.exit(f"error: {what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return answer


def check(what: str, found, expected):
    if found != expected:
        sys.exit(f"error: {what}: {found!r}, and not {expected!r}")
    print(f"  {what}: {found}", flush=True)


# ---------------------------------------------------------------- the consumers


class Consumer:
    def __init__(self, language: str):
        self.language, self.stack = language, f"loyalty-points-{language}"

    def deploy(self, tries: int):
        """In a folder of its own, so that both can lie beside each other."""
        home = stack.STATE / "consumer" / self.language
        shutil.rmtree(home, ignore_errors=True)
        (home / "package").mkdir(parents=True)
        shutil.copy(KIT / "template.yaml", home)
        {"rust": self.take_rust, "typescript": self.build_typescript}[self.language](home / "package")
        parameters = {"EventBus": environment()["EVENT_BUS"], "Language": self.language, "Architecture": "x86_64",
                      "RetryAfterSeconds": RETRY_AFTER, "Tries": tries}
        self.remove()
        sam = [stack.TOOLS / "sam" / "bin" / "sam", "deploy", "--stack-name", self.stack, "--template-file", home / "template.yaml", "--resolve-s3",
               "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
        stack.run_quietly(sam, home / "deploy.log", os.environ.copy())
        described = client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    def remove(self):
        client("cloudformation").delete_stack(StackName=self.stack)
        client("cloudformation").get_waiter("stack_delete_complete").wait(StackName=self.stack, WaiterConfig={"Delay": 1})

    def take_rust(self, package: Path):
        """What `make up` has built."""
        stack.place(stack.target() / "loyalty-points", package / "bootstrap")

    def build_typescript(self, package: Path):
        path = f"{stack.folder_of_node()}{os.pathsep}{os.environ['PATH']}"
        client, install = ROOT / "clients" / "typescript", ["ci", "--no-audit", "--no-fund"]
        steps = [(KIT / "typescript", command) for command in (install, ["test"], ["run", "package"])]
        if not (client / "dist").exists():  # the types of events
            steps = [(client, install), (client, ["run", "build"]), *steps]
        for folder, command in steps:
            npm = [shutil.which("npm", path=path), "--prefix", folder, *command]
            stack.run_quietly(npm, package.parent / "npm.log", os.environ | {"PATH": path})
        shutil.copy(KIT / "package" / "index.js", package)

    def mend(self, rates: dict[str, int]):
        name = self.outputs["Consumer"]
        variables = client("lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        client("lambda").update_function_configuration(FunctionName=name, Environment={"Variables": variables | {"RATES": json.dumps(rates)}})
        client("lambda").get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    def items(self) -> dict[str, dict]:
        pages = client("dynamodb").get_paginator("scan").paginate(TableName=self.outputs["Table"], ConsistentRead=True)
        return {item["id"]["S"]: item for page in pages for item in page["Items"]}

    def progress(self) -> dict[str, int]:
        """The number of the last event that was handled of each order."""
        return {id.removeprefix("order#"): int(item["last"]["N"]) for id, item in self.items().items() if id.startswith("order#")}

    def points(self, customer: str) -> int:
        return int(self.items().get(f"customer#{customer}", {}).get("points", {}).get("N", 0))

    def delays(self, orders: dict[str, tuple[int, datetime.datetime]]) -> list[float]:
        """Seconds from when the last event of each order was decided until it was handled."""
        items = self.items()
        return [(moment(items[f"order#{order}"]["at"]["S"]) - at).total_seconds() for order, (_, at) in orders.items()]

    def parked(self) -> int:
        attributes = client("sqs").get_queue_attributes(QueueUrl=self.outputs["DeadLettersUrl"], AttributeNames=["ApproximateNumberOfMessages"])
        return int(attributes["Attributes"]["ApproximateNumberOfMessages"])

    def redrive(self) -> list[dict]:
        """As the console's button does it, which the emulator has not: what lies there goes back to the queue, in any order. Answers the events."""
        dead, found = self.outputs["DeadLettersUrl"], []
        while messages := client("sqs").receive_message(QueueUrl=dead, MaxNumberOfMessages=10).get("Messages", []):
            found += messages
        random.shuffle(found)
        for message in found:
            client("sqs").send_message(QueueUrl=self.outputs["QueueUrl"], MessageBody=message["Body"])
            client("sqs").delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]


# ---------------------------------------------------------------- orders


def moment(text: str) -> datetime.datetime:
    """RFC 3339, whose fraction of a second may be longer or shorter than Python 3.10 reads."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")


class Shop:
    def __init__(self, pieces: int):
        python = stack.TOOLS / "emulator" / "bin" / "python"
        token = subprocess.run([python, stack.HERE / "aws.py", "token", "staff-1"], timeout=MINUTE, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.staff, self.table = Service(environment()["API_URL"], token), environment()["EVENTS_TABLE"]
        self.customer = str(uuid.uuid4())
        for id, currency in (("cup-consumed", "CNY"), ("cup-refused", "EUR")):
            self.staff.put_product({"id": id, "name": "Cup", "price": {"amount": PRICE, "currency": currency}, "stock": pieces})

    def place(self, count: int, product: str = "cup-consumed") -> list[str]:
        placed = []
        with concurrent.futures.ThreadPoolExecutor(PACE) as pool:
            for _ in range(count):
                placed.append(pool.submit(self.staff.place, self.customer, [product]))
                time.sleep(1 / PACE)
        return [each.result() for each in placed]

    def refund(self, order: str, amount: int):
        refund = {"amount": {"amount": amount, "currency": "CNY"}, "reason": "a crack"}
        self.staff.expect([202], "POST", f"/api/v1/orders/{order}/refunds", refund)

    def ended(self, orders: list[str], by: str = "OrderConfirmed") -> dict[str, tuple[int, datetime.datetime]]:
        """Each order with the number and the time of its last event, once that is this one."""
        last = {}
        for order in orders:
            last[order] = wait(f"{by} of {order}", lambda: self.last(order, by))
        return last

    def last(self, order: str, event_type: str) -> tuple[int, datetime.datetime] | None:
        commits = client("dynamodb").query(TableName=self.table, ConsistentRead=True, ScanIndexForward=False, Limit=1,
                                           KeyConditionExpression="#stream = :stream", ExpressionAttributeNames={"#stream": "stream"},
                                           ExpressionAttributeValues={":stream": {"S": f"order#{order}"}})["Items"]
        for commit in commits:
            events = json.loads(commit["events"]["S"])
            if events[-1]["type"] == event_type:
                return int(commit["version"]["N"]) + len(events) - 1, moment(commit["occurred_at"]["S"])

    def republish(self, orders: list[str]):
        names = stack.STATE / "consumer" / "orders.txt"
        names.write_text("\n".join(orders))
        replay = [stack.TOOLS / "emulator" / "bin" / "python", ROOT / "infra" / "redeliver.py", "republish", "--orders", names, "--stack", "order-service-local", "--pace", "50"]
        subprocess.run(replay, timeout=10 * MINUTE, check=True)


# ---------------------------------------------------------------- what is tried


def run(count: int, consumers: list[Consumer]):
    shop = Shop(count + 10)
    early = shop.place(1)
    shop.ended(early)
    tries = 3 + count // (2 * PACE * RETRY_AFTER)  # what is refused is still being tried when the last of the others comes
    print(f"Deploying {', '.join(each.stack for each in consumers)}: {tries} tries, {RETRY_AFTER} s apart", flush=True)
    for consumer in consumers:
        consumer.deploy(tries)

    print("An order that is older than the consumer: its next event waits until those before it are given again")
    shop.refund(early[0], 999)
    last = shop.ended(early, by="RefundCompleted")
    check("who knows of it", [early[0] in consumer.progress() for consumer in consumers], [False for _ in consumers])
    shop.republish(early)
    handled(consumers, last)
    points = (PRICE - 999) // RATE
    check("points", [consumer.points(shop.customer) for consumer in consumers], [points for _ in consumers])

    half = count // 2
    print(f"{half} orders")
    before = shop.ended(shop.place(half))
    handled(consumers, before)
    points += half * (PRICE // RATE)
    check("points", [consumer.points(shop.customer) for consumer in consumers], [points for _ in consumers])

    print(f"One order in another currency, and {count - half - 1} beside it")
    poison = shop.place(1, "cup-refused")
    beside = shop.ended(shop.place(count - half - 1))
    handled(consumers, beside)
    points += len(beside) * (PRICE // RATE)
    check("points", [consumer.points(shop.customer) for consumer in consumers], [points for _ in consumers])
    refused = shop.ended(poison)
    handled(consumers, {poison[0]: (2, None)})  # and not its third, the payment
    for consumer in consumers:
        compare(consumer, before, beside)

    print("All events of these orders once more")
    shop.republish([*early, *before, *beside])
    time.sleep(RETRY_AFTER)  # until what was early has come again
    check("points", [consumer.points(shop.customer) for consumer in consumers], [points for _ in consumers])

    print("What was refused is parked; once there is a rate, it is handled")
    later = refused[poison[0]][0] - 2
    for consumer in consumers:
        wait("all later events of the order are parked", lambda: consumer.parked() == later, (tries + 3) * RETRY_AFTER)
        consumer.mend({"CNY": RATE, "EUR": RATE})
        events = [event["detail"]["metadata"] for event in consumer.redrive()]
        check(f"{consumer.language}: whose events were parked", {event["aggregate_id"] for event in events}, set(poison))
        print(f"  in this order: {[event['sequence'] for event in events]}")
    handled(consumers, refused)
    points += PRICE // RATE
    check("points", [consumer.points(shop.customer) for consumer in consumers], [points for _ in consumers])
    check("parked", [consumer.parked() for consumer in consumers], [0 for _ in consumers])


def handled(consumers: list[Consumer], orders: dict[str, tuple[int, datetime.datetime | None]]):
    expected = {order: last for order, (last, _) in orders.items()}
    for consumer in consumers:
        wait(f"all events are handled by {consumer.stack}", lambda: expected.items() <= consumer.progress().items())


def compare(consumer: Consumer, before: dict, beside: dict):
    """In one run on one machine. A noisy one is forgiven a quarter of a second, and no retry, which takes many."""
    (fast, slow), (fast_beside, slow_beside) = (summary(consumer.delays(orders)) for orders in (before, beside))
    print(f"  {consumer.language}: handled after a median of {fast:.2f} s ({slow:.2f} s at most), beside the poison {fast_beside:.2f} s ({slow_beside:.2f} s)")
    if fast_beside > 1.5 * fast + 0.25:
        sys.exit(f"error: {consumer.language}: orders wait for one that is refused")


def summary(seconds: list[float]) -> tuple[float, float]:
    return statistics.median(seconds), max(seconds)


def main():
    parser = argparse.ArgumentParser(description="Tries the example consumers beside the running local stack")
    parser.add_argument("--orders", type=int, default=30)
    parser.add_argument("--languages", nargs="+", choices=["rust", "typescript"], default=["rust", "typescript"])
    parser.add_argument("--keep", action="store_true", help="leave their stacks there")
    arguments = parser.parse_args()
    if not 4 <= arguments.orders <= 2000:
        parser.error("--orders is from 4 to 2000")
    process = stack.running() or sys.exit("error: the local stack is not running; `make up` starts it")
    given = stack.client_environment(process["port"])
    os.environ.clear()
    os.environ.update(given)
    consumers = [Consumer(language) for language in arguments.languages]
    try:
        run(arguments.orders, consumers)
    finally:
        if not arguments.keep:
            for consumer in consumers:
                consumer.remove()


if __name__ == "__main__":
    main()

"""Has both versions run at once, as they do during a deployment: half of the functions are the last release's, half are this version's.

`make mixed` starts a stack of this version's template and functions for it, and builds the last release, which tests/last_release.json names.
Which functions are old changes from round to round, in both directions, while orders of every kind are under way: as often as it takes for
each two functions to have met, one old and one new, either way round. A function that the last release does not have stays new.

Runs with the emulator's libraries, and is told in OLD_FUNCTIONS where the last release's functions lie.
"""
from __future__ import annotations

import collections
import concurrent.futures
import datetime
import json
import os
import subprocess
import sys
import time
import unittest
import urllib.error
import uuid
from pathlib import Path
from typing import Callable, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "infra"), str(ROOT / "infra" / "local")]

from aws import client, files_of, service, stack_environment, update  # noqa: E402
from service import ADDRESS, Service  # noqa: E402

OLD = Path(os.environ["OLD_FUNCTIONS"])
PREFIX = "order-service-local-"
PRICE, STOCK = {"amount": 1999, "currency": "CNY"}, 10_000
AT_ONCE = 6  # orders, and functions that change: there are two processors
PATIENCE = 120  # seconds that anything may take that is waited for
PROFILES = 15  # changes of one profile in a round: before the last round there are more than a stream is read in without a snapshot
# What functions say of an event that they cannot read (shared/domain/src/stored_event.rs), and so of what would be parked.
UNREADABLE = ["unknown event type", "was written by a newer version", "has unreadable data"]


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def until(what: str, found, pause: float = 0.3):
    """Asks until there is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(pause)
    raise AssertionError(f"{what} within {PATIENCE} s")


def insist(caller: Service, codes: list[int], method: str, path: str, body: dict | None = None) -> dict:
    """Sends under one key until there is an answer that is not for later, as a client does: a function may end while it is at work."""
    key, last = str(uuid.uuid4()), None

    def answered():
        nonlocal last
        try:
            last = caller.call(method, path, body, key)
        except (urllib.error.URLError, OSError) as error:
            last = str(error)
            return None
        return last if last[0] < 500 and last[0] != 429 else None

    try:
        code, answer = until("an answer", answered)
    except AssertionError as error:
        raise AssertionError(f"{method} {path}: {error}, at last {last}") from None
    if code not in codes:
        raise AssertionError(f"{method} {path} answered {code}: {json.dumps(answer)}")
    return answer


# ---------------------------------------------------------------- which functions are old


class Functions:
    """The deployed functions that both versions have."""

    def __init__(self):
        self.service = client("lambda")
        deployed = [function for page in self.service.get_paginator("list_functions").paginate() for function in page["Functions"]]
        self.timeouts = {function["FunctionName"].removeprefix(PREFIX): function["Timeout"] for function in deployed
                         if function["FunctionName"].startswith(PREFIX)}
        self.both = sorted(name for name in self.timeouts if (OLD / name / "bootstrap").exists())
        self.new = {name: files_of(self.service.get_function(FunctionName=PREFIX + name, Qualifier="live")) for name in self.both}
        self.old: set[str] = set()

    def rounds(self) -> list[tuple[str, set[str]]]:
        """Halves, by each digit of a function's number in turn: any two numbers differ in one digit at least."""
        found = []
        for digit in range((len(self.both) - 1).bit_length()):
            half = {name for number, name in enumerate(self.both) if number >> digit & 1}
            found += [(f"half {digit + 1}", half), (f"half {digit + 1}, the other way round", set(self.both) - half)]
        return found

    def change(self, old: set[str]):
        """Makes these functions the last release's, and all others this version's."""
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self.put(name, name in old), sorted(old ^ self.old)))
        self.old = old

    def put(self, name: str, old: bool):
        files = {"bootstrap": (OLD / name / "bootstrap").read_bytes()} if old else self.new[name]
        update(self.service, PREFIX + name, files, self.timeouts[name])


# ---------------------------------------------------------------- orders


class Order:
    """An order of one kind, which is taken all the way."""

    def __init__(self, shop: "Shop", kind: str):
        self.shop, self.kind, self.began = shop, kind, time.monotonic()
        given = KINDS[kind].given
        price = {"amount": 0, "currency": "CNY"} if given.get("free") else PRICE
        body = {"customer_id": shop.customer_id, "payment_method": given.get("payment_method", "pm_card_visa"),
                "items": [{"product_id": shop.free if given.get("free") else shop.product, "quantity": 2, "unit_price": price}],
                "shipping_address": ADDRESS | {"postal_code": given.get("postal_code", "200001")}}
        self.id = insist(shop.customer, [201], "POST", "/api/v1/orders", body)["order_id"]
        self.path = f"/api/v1/orders/{self.id}"

    def __str__(self):
        return f"{self.id} ({self.kind})"

    def view(self) -> dict:
        return insist(self.shop.staff, [200, 404], "GET", self.path)

    def has(self, status: str):
        until(f"{self} is not {status}", lambda: self.view().get("status") == status)

    def staff(self, deed: str, body: dict):
        insist(self.shop.staff, [202], "POST", f"{self.path}/{deed}", body)

    def cancel(self):
        insist(self.shop.customer, [202], "POST", f"{self.path}/cancel", {"reason": "changed my mind"})

    def deliver(self):
        self.has("confirmed")
        insist(self.shop.carrier, [200], "POST", f"{self.path}/delivery", {})

    def refund(self, amount: int):
        self.has("confirmed")
        self.staff("refunds", {"amount": PRICE | {"amount": amount}, "reason": "one packet was damaged"})

    def skip(self, step: str):
        self.has("needs_attention")
        self.staff("fulfilment/skip", {"step": step, "reason": "it was settled by hand"})

    def cancel_when(self, status: str):
        self.has(status)
        self.cancel()

    def get_stuck_and_resume(self):
        """The sandbox changes its mind meanwhile: what it refused, it would refuse for ever."""
        self.cancel_when("confirmed")
        self.has("needs_attention")
        table, keys = self.shop.environment["PAYMENTS_TABLE"], {":order": {"S": self.id}}
        for entry in self.shop.dynamodb.query(TableName=table, KeyConditionExpression="order_id = :order", ExpressionAttributeValues=keys)["Items"]:
            if entry.get("payment_method") == {"S": "pm_refund_fails"}:
                self.shop.dynamodb.put_item(TableName=table, Item=entry | {"payment_method": {"S": "pm_card_visa"}})
        self.staff("fulfilment/resume", {"reason": "the bank takes it now"})

    def cancel_and_skip(self, step: str):
        self.cancel_when("confirmed")
        self.skip(step)

    def refund_and_see_it(self, amount: int, status: str):
        self.refund(amount)
        if status == "failed":
            self.skip("issue-refund")
        until(f"the refund of {self} is not {status}", lambda: [each["status"] for each in self.view()["refunds"]] == [status])


class Kind(NamedTuple):
    given: dict  # what the order asks the sandbox for
    goes: Callable[[Order], object]  # what is done to it
    end: str
    kept: int  # of the money, and of the pieces: what is not with the customer again, and not in stock
    pieces: int


def cancel_when_confirmed(order: Order):
    order.cancel_when("confirmed")


def nothing(_: Order):
    pass


PAID = 2 * PRICE["amount"]
KINDS = {
    "goes through": Kind({}, nothing, "confirmed", PAID, 2),
    "costs nothing": Kind({"free": True}, nothing, "confirmed", 0, 2),
    "is declined": Kind({"payment_method": "pm_card_declined"}, nothing, "rejected", 0, 0),
    "is refused by the carrier": Kind({"postal_code": "SANDBOX-REFUSE"}, nothing, "rejected", 0, 0),
    "is slow to be charged": Kind({"payment_method": "pm_slow"}, nothing, "confirmed", PAID, 2),
    "is charged without an answer": Kind({"payment_method": "pm_charged_then_timeout"}, nothing, "confirmed", PAID, 2),
    "is charged at the third try": Kind({"payment_method": "pm_fails_twice"}, nothing, "confirmed", PAID, 2),
    "is shipped without an answer": Kind({"postal_code": "SANDBOX-TIMEOUT"}, nothing, "confirmed", PAID, 2),
    "is cancelled at once": Kind({"payment_method": "pm_slow"}, Order.cancel, "cancelled", 0, 0),
    "is cancelled after its shipment": Kind({}, cancel_when_confirmed, "cancelled", 0, 0),
    "is refunded at the third try": Kind({"payment_method": "pm_refund_fails_twice"}, cancel_when_confirmed, "cancelled", 0, 0),
    "is delivered": Kind({}, Order.deliver, "confirmed", PAID, 2),
    "is refunded in part": Kind({}, lambda order: order.refund_and_see_it(1000, "completed"), "confirmed", PAID - 1000, 2),
    "has a refund given up": Kind({"payment_method": "pm_refund_fails"}, lambda order: order.refund_and_see_it(1000, "failed"), "confirmed", PAID, 2),
    "is stuck and resumed": Kind({"payment_method": "pm_refund_fails"}, Order.get_stuck_and_resume, "cancelled", 0, 0),
    "is stuck and skipped": Kind({"payment_method": "pm_refund_fails"}, lambda order: order.cancel_and_skip("refund-payment"), "cancelled", PAID, 0),
    "is kept by the carrier": Kind({"postal_code": "SANDBOX-KEEP"}, lambda order: order.cancel_and_skip("cancel-shipment"), "cancelled", 0, 2),
}


class Shop:
    def __init__(self):
        self.environment = stack_environment()
        self.dynamodb, self.queues = client("dynamodb"), client("sqs")
        # The emulator ends functions that change while they are at work. What start-fulfilment had in its hands comes again after ten minutes otherwise.
        self.queues.set_queue_attributes(QueueUrl=self.environment["FULFILMENT_QUEUE_URL"], Attributes={"VisibilityTimeout": "5"})
        self.customer, self.staff, self.carrier = service("customer-1"), service("staff-1"), service("carrier-1")
        self.customer_id = self.environment["CUSTOMER_1_ID"]
        self.product, self.free = f"mixed-{uuid.uuid4()}", f"mixed-{uuid.uuid4()}"
        for product, price in ((self.product, PRICE), (self.free, PRICE | {"amount": 0})):
            self.staff.put_product({"id": product, "name": "Longjing green tea", "price": price, "stock": STOCK})
        self.orders: list[Order] = []
        self.opened, self.listed_before = now(), self.listed()

    def take(self, kind: str):
        """Takes one order all the way to its end."""
        order = Order(self, kind)
        KINDS[kind].goes(order)
        order.has(KINDS[kind].end)
        order.ended = time.monotonic()
        self.orders.append(order)

    def take_all(self):
        """An order of each kind, some at a time."""
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.take, KINDS))

    def change_profile(self, round_: str):
        for number in range(PROFILES):
            body = {"first_name": "Anna", "last_name": f"{number} of {round_}", "email": "anna@example.com"}
            insist(self.customer, [200, 201], "PUT", f"/api/v1/customers/{self.customer_id}", body)

    def read_all(self):
        """Everything that is shown of an order of each kind, and every list: whoever reads it, whoever has written it."""
        for order in {order.kind: order for order in self.orders}.values():
            for part in ("", "/events", "/timeline", "/ledger"):
                insist(self.staff, [200], "GET", order.path + part)
        for path in (f"/api/v1/orders/customer/{self.customer_id}", f"/api/v1/orders/search?q={self.orders[0].id[:8]}", "/api/v1/orders?status=confirmed",
                     f"/api/v1/events?type=OrderConfirmed&from={self.opened}&to={now()}", "/api/v1/stats?by=hour", f"/api/v1/customers/{self.customer_id}",
                     f"/api/v1/products/{self.product}", "/api/v1/products", "/health", "/metrics"):
            insist(self.staff, [200], "GET", path)

    def paid(self) -> int:
        """What the payment provider's books have of these orders, less what went back."""
        orders, found = {order.id for order in self.orders}, 0
        for page in self.dynamodb.get_paginator("scan").paginate(TableName=self.environment["PAYMENTS_TABLE"], ConsistentRead=True):
            for entry in page["Items"]:
                if entry["order_id"]["S"] in orders and "transaction_id" in entry:
                    found += int(entry["amount"]["N"]) * (1 if entry["entry"]["S"].startswith("charge#") else -1)
        return found

    def listed(self) -> int:
        return insist(self.staff, [200], "GET", f"/api/v1/orders/customer/{self.customer_id}")["total_count"]

    def messages(self, queues: str) -> int:
        """How many messages lie in the queues whose URLs stand under this name."""
        counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = [self.queues.get_queue_attributes(QueueUrl=queue, AttributeNames=counts)["Attributes"] for queue in self.environment[queues].split()]
        return sum(int(count) for attributes in found for count in attributes.values())

    def parked(self) -> list[dict]:
        """What a consumer has not been able to handle, and has set aside."""
        paths = [f"/api/v1/dead-letters?consumer={consumer}" for consumer in ("project-orders", "publish-events")]
        return [letter for path in paths for letter in insist(self.staff, [200], "GET", path)["dead_letters"]]


def run_schedules():
    """What AWS calls every few minutes; neither may fail."""
    functions = client("lambda")
    for name, event in (("reconcile", {"patience_seconds": 60}), ("compare-books", {"patience_seconds": 0, "order_id": None})):
        answer = functions.invoke(FunctionName=PREFIX + name, Qualifier="live", Payload=json.dumps(event).encode())
        if "FunctionError" in answer:
            raise AssertionError(f"{name} failed: {answer['Payload'].read().decode()}")


def said(text: str) -> list[str]:
    """What functions have written with this text in the last minutes."""
    logs = [sys.executable, ROOT / "infra/local/stack.py", "logs", "--once", "--containing", text]
    return subprocess.run(logs, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.splitlines()


class Mixed(unittest.TestCase):
    def test_orders_come_to_their_right_end_and_books_balance_whichever_half_is_old(self):
        shop, functions = Shop(), Functions()
        self.assertGreater(len(functions.both), 1, f"no functions of the last release in {OLD}")
        print(f"{len(functions.both)} functions of both versions; of this one only: {', '.join(sorted(functions.timeouts.keys() - set(functions.both))) or 'none'}",
              flush=True)
        met_the_change = 0
        for name, old in functions.rounds():
            began = time.monotonic()
            under_way = self.change_under_way(shop, functions, old)
            met_the_change += under_way
            shop.take_all()
            shop.change_profile(name)
            run_schedules()
            shop.read_all()
            until(f"the fulfilment's queue is not empty after {name}", lambda: shop.messages("FULFILMENT_QUEUE_URL") == 0)
            self.assertEqual(shop.messages("DEAD_LETTER_QUEUE_URLS"), 0, f"dead letters after {name}")
            self.assertEqual(shop.parked(), [], f"parked after {name}")
            self.assertEqual([line for text in UNREADABLE for line in said(text)], [], name)
            print(f"{name}: {len(old)} functions are old; {under_way} orders were under way when the last of them had changed; "
                  f"{len(shop.orders)} orders have ended by now; {time.monotonic() - began:.0f} s", flush=True)
        self.assertGreater(met_the_change, 0)
        self.check_books(shop)

    def change_under_way(self, shop: Shop, functions: Functions, old: set[str]) -> int:
        """Changes functions while orders of every kind come and go; answers how many were under way when all had changed."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            changing, changed_at = pool.submit(functions.change, old), []
            changing.add_done_callback(lambda _: changed_at.append(time.monotonic()))
            before = len(shop.orders)
            while not changing.done():
                shop.take_all()
            changing.result()
        return sum(order.began < changed_at[0] < order.ended for order in shop.orders[before:])

    def check_books(self, shop: Shop):
        """Each order by itself, and all together by the providers' own books."""
        kept, pieces = 0, collections.Counter()
        for order in shop.orders:
            kind, view = KINDS[order.kind], order.view()
            ledger = insist(shop.staff, [200], "GET", f"{order.path}/ledger")
            self.assertTrue(ledger["agrees"], f"{order}: {json.dumps(ledger)}")
            books = ledger["order"]
            held = {line["product_id"]: line["quantity"] for line in books["reserved"]}
            found = (view["status"], books["charged"] - books["refunded"], sum(held.values()))
            self.assertEqual(found, (kind.end, kind.kept, kind.pieces), f"{order}: {json.dumps(books)}")
            kept += kind.kept
            pieces.update(held)
        self.assertEqual(shop.paid(), kept)
        for product in (shop.product, shop.free):
            stock = insist(shop.staff, [200], "GET", f"/api/v1/products/{product}")["stock"]
            self.assertEqual(STOCK - stock, pieces[product], product)
        self.assertEqual(shop.listed() - shop.listed_before, len(shop.orders))
        ends = collections.Counter(KINDS[order.kind].end for order in shop.orders)
        print(f"{len(shop.orders)} orders: {dict(ends)}; {kept / 100:,.2f} CNY kept and {sum(pieces.values())} pieces held, as they should be", flush=True)


if __name__ == "__main__":
    unittest.main()

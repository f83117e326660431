"""`make soak`: for an hour, orders are placed, cancelled, refunded, read and searched at half of what the stack bears, while functions'
processes are killed at random. Then all of it has to come right: every order at its end, the books exact, nothing left on its way, and
no function larger than it was.

What the stack bears is measured first. Each half of the functions is killed in one half of the time; in the other, its processes grow old,
and show whether memory grows.
Runs with the libraries of infra/local/sam.txt on the stack that is up: make soak MINUTES=60
"""
from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
import zlib
from pathlib import Path

import botocore.session
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "infra" / "local"), str(ROOT / "infra")]

import stack  # noqa: E402
from service import ADDRESS, json_of  # noqa: E402

CLIENTS = 8
MEASURED = 20  # seconds of as much as there can be
AT_ONCE = 64  # visits that are under way; what is beyond waits, and is told as late
PRICE, STOCK, GESTURE = 1999, 1_000_000, 100
PAUSE_OF_KILLER = 2.0  # seconds at most from one kill to the next
TRIES = 100
SETTLING = 15 * 60
TOKEN_FOR = 20 * 60
MAY_GROW = (2.0, 0.10)  # MB, or this part of what it had
HOLDS = {"search-orders": 6.0}  # MB besides: the ids of up to 20,000 orders, of which there are ever more (docs/benchmarks.md)
# How an order ends that asks the sandbox for this, and how many of a hundred do.
KINDS = [(70, {}, "confirmed"), (10, {"payment_method": "pm_card_declined"}, "rejected"), (10, {"postal_code": "SANDBOX-REFUSE"}, "rejected"),
         (5, {"payment_method": "pm_charged_then_timeout"}, "confirmed"), (5, {"postal_code": "SANDBOX-TIMEOUT"}, "confirmed")]


@dataclasses.dataclass
class Placed:
    id: str
    pieces: int
    end: str
    refunded: int = 0


def client(service: str):
    return botocore.session.get_session().create_client(service, config=Config(max_pool_connections=AT_ONCE))


class Soak:
    def __init__(self, seed: int):
        os.environ.update(stack.client_environment(stack.running()["port"]))
        self.settings = {name: value.strip('"') for name, value in (line.split("=", 1) for line in stack.STACK_ENV.read_text().splitlines())}
        self.random, self.lock = random.Random(seed), threading.Lock()
        self.tokens: dict[str, tuple[float, str]] = {}
        self.took: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)  # when and how long, in seconds, of each kind of request
        self.failed = collections.Counter()
        self.orders: list[Placed] = []
        self.kills = 0
        self.memory: dict[tuple[int, str], list[tuple[float, float]]] = collections.defaultdict(list)  # MB of each process
        self.emulator = stack.running()["pid"]
        self.product = f"soak-{uuid.uuid4()}"
        self.insist("staff-1", "PUT", f"/api/v1/products/{self.product}", {"name": "Tea", "price": {"amount": PRICE, "currency": "CNY"}, "stock": STOCK})

    # ------------------------------------------------------------ requests

    def token(self, who: str) -> str:
        with self.lock:
            since, token = self.tokens.get(who, (0.0, ""))
            if not token or time.monotonic() - since > TOKEN_FOR:
                token = stack.token_of(who)
                self.tokens[who] = (time.monotonic(), token)
            return token

    def send(self, who: str, method: str, path: str, body: dict | None, key: str) -> tuple[int, dict]:
        headers = {"Authorization": f"Bearer {self.token(who)}", "Content-Type": "application/json"} | ({"Idempotency-Key": key} if method == "POST" else {})
        request = urllib.request.Request(self.settings["API_URL"] + path, method=method, headers=headers, data=json.dumps(body).encode() if body else None)
        try:
            with urllib.request.urlopen(request, timeout=35) as response:
                return response.status, json_of(response)
        except urllib.error.HTTPError as error:
            return error.code, json_of(error)

    def insist(self, who: str, method: str, path: str, body: dict | None = None, kind: str = "") -> tuple[int, dict]:
        """Sends until there is an answer that is not the server's failure, under one key, as a client does. The last try is timed."""
        key = str(uuid.uuid4())
        for _ in range(TRIES):
            began = time.monotonic()
            try:
                code, answer = self.send(who, method, path, body, key)
            except OSError:
                code, answer = 599, {}
            if code < 500:
                if kind:
                    self.took[kind].append((began, time.monotonic() - began))
                return code, answer
            self.failed[kind or "other"] += 1
            time.sleep(0.1)
        raise AssertionError(f"{method} {path} has failed {TRIES} times, at last with {code}")

    def visit(self, seed: int, pause: float):
        """What one customer does, and staff for them."""
        chance = random.Random(seed)
        _, asked, end = chance.choices(KINDS, [weight for weight, *_ in KINDS])[0]
        pieces = 1 + chance.randrange(3)
        body = {"customer_id": self.settings["CUSTOMER_1_ID"], "items": [{"product_id": self.product, "quantity": pieces}],
                "shipping_address": ADDRESS | {name: value for name, value in asked.items() if name == "postal_code"},
                "payment_method": asked.get("payment_method", "pm_card_visa")}
        code, answer = self.insist("customer-1", "POST", "/api/v1/orders", body, "place")
        if code != 201:
            raise AssertionError(f"an order was answered with {code}: {answer}")
        order = Placed(answer["order_id"], pieces, end)
        with self.lock:
            self.orders.append(order)
        path = f"/api/v1/orders/{order.id}"
        time.sleep(chance.random() * pause)
        self.insist("customer-1", "GET", path, kind="read")
        if chance.randrange(4) == 0:
            code, answer = self.insist("customer-1", "POST", f"{path}/cancel", {"reason": "changed my mind"}, "cancel")
            if code == 202:
                order.end = "cancelled"
        elif chance.randrange(8) == 0:
            self.refund(order, pause)
        self.insist("customer-1", "GET", f"/api/v1/orders/customer/{self.settings['CUSTOMER_1_ID']}", kind="list")
        if chance.randrange(4) == 0:
            self.insist("staff-1", "GET", f"/api/v1/orders/search?q={order.id[:13]}", kind="search")

    def refund(self, order: Placed, pause: float):
        """Once it is confirmed, if that is soon."""
        time.sleep(2 * pause)
        gesture = {"amount": {"amount": GESTURE, "currency": "CNY"}, "reason": "a gesture"}
        if self.insist("staff-1", "POST", f"/api/v1/orders/{order.id}/refunds", gesture, "refund")[0] == 202:
            order.refunded = GESTURE

    # ------------------------------------------------------------ load, kills and samples

    def seed(self) -> int:
        with self.lock:
            return self.random.getrandbits(32)

    def bears(self) -> float:
        """Orders a second, from the first request until the last order is at rest."""
        began = time.monotonic()

        def visits():
            while time.monotonic() - began < MEASURED:
                self.visit(self.seed(), pause=0)

        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(visits) for _ in range(CLIENTS)]:
                done.result()
        self.settle()
        return len(self.orders) / (time.monotonic() - began)

    def load(self, rate: float, seconds: float) -> tuple[int, float]:
        """Visits at this rate, whatever becomes of those before. Answers how many, and how late the latest began."""
        began, at, visits, latest = time.monotonic(), 0.0, [], [0.0]

        def begin(due: float):
            latest[0] = max(latest[0], time.monotonic() - began - due)
            self.visit(self.seed(), pause=1)

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            while at < seconds:
                time.sleep(max(0.0, began + at - time.monotonic()))
                visits.append(pool.submit(begin, at))
                at += self.random.expovariate(rate)
            for visit in visits:
                visit.result()
        return len(visits), latest[0]

    def processes(self) -> dict[int, str]:
        """Those of the functions: children of our emulator that run a binary which it has unpacked."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.emulator and "ministack-provided-code" in (folder / "cmdline").read_text():
                    names = dict(pair.partition("=")[::2] for pair in (folder / "environ").read_text().split("\0"))
                    found[int(folder.name)] = names["AWS_LAMBDA_FUNCTION_NAME"].removeprefix("order-service-local-")
            except (OSError, ValueError, KeyError):  # it has just ended, or just begun
                continue
        return found

    def kill_at_random(self, stop: threading.Event, seconds: float):
        chance, began = random.Random(self.seed()), time.monotonic()
        while not stop.wait(chance.random() * PAUSE_OF_KILLER):
            half = time.monotonic() - began > seconds / 2
            victims = [pid for pid, function in self.processes().items() if (zlib.crc32(function.encode()) % 2 == 1) == half]
            if victims:
                try:
                    os.kill(chance.choice(victims), signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    continue

    def killed_at_work(self) -> int:
        """How many invocations have lost their process, as the emulator's log has it."""
        with stack.EMULATOR_LOG.open(errors="replace") as log:
            return sum("Runtime exited before returning" in line for line in log)

    def sample(self, stop: threading.Event, every: float):
        page = os.sysconf("SC_PAGE_SIZE") / 1e6
        while not stop.wait(every):
            for pid, function in [*self.processes().items(), (self.emulator, "the emulator")]:
                try:
                    self.memory[pid, function].append((time.monotonic(), int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page))
                except OSError:
                    continue

    # ------------------------------------------------------------ the end

    def settle(self) -> int:
        """Waits for the right end of each order, and lets go on what is stuck. Answers how often that was."""
        deadline, stop = time.monotonic() + SETTLING, threading.Event()

        def look_after():
            functions = client("lambda")
            while not stop.wait(2):
                functions.invoke(FunctionName="order-service-local-reconcile", Qualifier="live", Payload=b'{"patience_seconds": 5}')

        looking = threading.Thread(target=look_after, daemon=True)
        looking.start()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            resumed = sum(pool.map(lambda order: self.settled(order, deadline), list(self.orders)))
        stop.set()
        looking.join()
        return resumed

    def settled(self, order: Placed, deadline: float) -> int:
        path, resumed = f"/api/v1/orders/{order.id}", 0
        while True:
            code, view = self.insist("staff-1", "GET", path)
            if code == 200 and view["status"] == order.end and all(refund["status"] == "completed" for refund in view["refunds"]):
                return resumed
            if time.monotonic() > deadline:
                raise AssertionError(f"{order.id} is {view.get('status')}, and should be {order.end}")
            if view["status"] == "needs_attention":
                resumed += self.insist("staff-1", "POST", f"{path}/fulfilment/resume", {"reason": "nothing is killed any more"})[0] == 202
            time.sleep(0.2)

    def kept(self) -> dict[str, int]:
        """What the payment provider has of each order: what was charged, without what went back."""
        kept = collections.Counter()
        for page in client("dynamodb").get_paginator("scan").paginate(TableName=self.settings["PAYMENTS_TABLE"], ConsistentRead=True):
            for line in page["Items"]:
                order, entry = line["order_id"]["S"], line["entry"]["S"]
                if entry.startswith("charge#") and line.get("outcome", {}).get("S") == "completed":
                    kept[order] += int(line["amount"]["N"])
                elif entry.startswith("refund#"):
                    kept[order] -= int(line["amount"]["N"])
        return kept

    def letters(self) -> int:
        counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        queues = [*self.settings["DEAD_LETTER_QUEUE_URLS"].split(), self.settings["FULFILMENT_QUEUE_URL"]]
        return sum(int(count) for queue in queues for count in client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=counts)["Attributes"].values())

    def parked(self) -> set[str]:
        """Orders and customers that wait for somebody to redrive them."""
        lists = [self.insist("staff-1", "GET", f"/api/v1/dead-letters?consumer={consumer}&page_size=100")[1] for consumer in ("project-orders", "publish-events")]
        return {f"{each['consumer']} has parked {letter['id']}: {letter['error']}" for each in lists for letter in each["dead_letters"] if letter["kind"] == "parked"}

    def wrong(self, letters_before: int, parked_before: set[str]) -> list[str]:
        """What has not come right."""
        kept, found = self.kept(), []
        for order in self.orders:
            worth = order.pieces * PRICE - order.refunded if order.end == "confirmed" else 0
            if kept.get(order.id, 0) != worth:
                found.append(f"the provider keeps {kept.get(order.id, 0)} of {order.id}, and its {order.end} order is worth {worth}")
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            ledgers = pool.map(lambda order: self.insist("staff-1", "GET", f"/api/v1/orders/{order.id}/ledger")[1], self.orders)
            found += [f"the books of {order.id} differ: {ledger}" for order, ledger in zip(self.orders, ledgers) if ledger.get("agrees") is not True]
        stock = self.insist("staff-1", "GET", f"/api/v1/products/{self.product}")[1]["stock"]
        sold = sum(order.pieces for order in self.orders if order.end == "confirmed")
        found += [f"of {STOCK} pieces, {sold} were sold, and {stock} are left" for _ in [0] if stock != STOCK - sold]
        left = self.letters() - letters_before
        return found + [f"{left} messages are left in queues" for _ in [0] if left] + sorted(self.parked() - parked_before)

    def grown(self, since: float) -> list[tuple[float, float, str]]:
        """How much larger each process has become that lived for nearly half of this time, how large it was when it was warm, and whose it is."""
        found, length = [], time.monotonic() - since
        for (_, function), samples in self.memory.items():
            if samples[-1][0] - samples[0][0] > 0.4 * length and len(samples) >= 10:
                fifth = len(samples) // 5
                warm, last = (statistics.median(mb for _, mb in part) for part in (samples[fifth:2 * fifth], samples[-fifth:]))
                found.append((last - warm, warm, function))
        return sorted(found, reverse=True)


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] * 1000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=random.getrandbits(32))
    arguments = parser.parse_args()
    if not (stack.running() and stack.STACK_ENV.exists()):
        stack.fail("the local stack is not running; `make up` starts it")
    soak = Soak(arguments.seed)
    print(f"SEED={arguments.seed}. What the stack bears is measured first", flush=True)
    sqs, queue = client("sqs"), soak.settings["FULFILMENT_QUEUE_URL"]
    before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])["Attributes"]
    # What a killed start-fulfilment had in its hands comes again after minutes otherwise.
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "5"})
    letters, parked, stop = soak.letters(), soak.parked(), threading.Event()
    try:
        bears = soak.bears()
        print(f"{bears:.1f} orders a second. Half of that for {arguments.minutes:g} minutes, while functions are killed", flush=True)
        soak.took.clear()
        soak.failed.clear()
        at_work = soak.killed_at_work()
        since, every = time.monotonic(), max(2.0, arguments.minutes * 60 / 200)
        beside = [threading.Thread(target=work, args=args, daemon=True) for work, args in ((soak.kill_at_random, (stop, arguments.minutes * 60)), (soak.sample, (stop, every)))]
        for thread in beside:
            thread.start()
        visits, latest = soak.load(bears / 2, arguments.minutes * 60)
        seconds = time.monotonic() - since
        grown = soak.grown(since)
        stop.set()
        for thread in beside:
            thread.join()
        began = time.monotonic()
        resumed = soak.settle()
        settled = time.monotonic() - began
        wrong = soak.wrong(letters, parked)
        at_work = soak.killed_at_work() - at_work
    finally:
        stop.set()
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=before)
    tell(soak, (since, seconds), (bears, visits, latest, at_work), (resumed, settled), grown)
    wrong += [f"a process of {function} has grown by {more:.1f} MB from {warm:.1f} MB" for more, warm, function in grown
              if function != "the emulator" and more > max(MAY_GROW[0], MAY_GROW[1] * warm) + HOLDS.get(function, 0)]
    wrong += ["no process has lived long enough to know anything of memory" for _ in [0] if len(grown) < 2]
    wrong += [f"only {soak.kills} processes were killed" for _ in [0] if soak.kills < 20 * arguments.minutes]
    if wrong:
        sys.exit("\n".join([f"error: {len(wrong)} things have not come right", *wrong[:20]]))
    print("\nEvery order is at its end, the books are exact, nothing is left on its way, and no function has grown")


def tell(soak: Soak, when: tuple[float, float], load: tuple[float, int, float, int], end: tuple[int, float], grown: list[tuple[float, float, str]]):
    (since, seconds), (bears, visits, latest, at_work), (resumed, settled) = when, load, end
    ends = collections.Counter(order.end for order in soak.orders)
    functions = [each for each in grown if each[2] != "the emulator"]
    rows = [("minutes", f"{seconds / 60:.1f}"), ("orders a second that the stack bears", f"{bears:.1f}"), ("orders a second", f"{visits / seconds:.1f}"),
            ("orders, with those that were measured with", f"{len(soak.orders)}"), *((f"... {end}", f"{count}") for end, count in sorted(ends.items())),
            ("... refunded in part", f"{sum(order.refunded > 0 for order in soak.orders)}"), ("processes killed", f"{soak.kills}"), ("... at work", f"{at_work}"),
            ("requests answered with 5xx, and sent again", f"{soak.failed.total()}"), ("s that the latest visit was late", f"{latest:.1f}"),
            ("s until all orders were at their ends", f"{settled:.0f}"), ("let go on by staff", f"{resumed}"),
            ("processes that lived for nearly half of it", f"{len(functions)}")]
    if functions:
        rows += [("MB that their median has grown by", f"{statistics.median(more for more, *_ in functions):.2f}"),
                 ("MB that the largest growth is", f"{functions[0][0]:.2f} ({functions[0][2]}, from {functions[0][1]:.1f})")]
    print("\n| figure | value |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows))
    print("\n| request | number | ms, median | ms, 95 % | ms, 95 % in the first fifth | in the last fifth |\n|---|---|---|---|---|---|")
    for kind, took in sorted(soak.took.items()):
        fifths = [[each for at, each in took if low <= (at - since) / seconds < high] for low, high in ((0, 0.2), (0.8, 1))]
        cells = [quantile([each for _, each in took], part) for part in (0.5, 0.95)] + [quantile(part, 0.95) if part else 0.0 for part in fifths]
        print(f"| {kind} | {len(took)} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()

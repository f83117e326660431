"""Tries infra/backup.py: without a stack on tables that it makes up, and on the running local stack by a drill, which loses what the stack has and
brings it back (`make restore-drill`). Holds the commands of docs/restore.md that nothing runs.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/restore_suite.py
"""
from __future__ import annotations

import base64
import collections
import concurrent.futures
import contextlib
import datetime
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import uuid
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "infra"), str(ROOT / "infra" / "local")]

import aws  # noqa: E402
import backup  # noqa: E402
import rebuild  # noqa: E402
import redeliver  # noqa: E402
import stack  # noqa: E402
from samcli.yamlhelper import yaml_parse  # noqa: E402
from service import Service  # noqa: E402
from tools import Function, Refused  # noqa: E402

MINUTE = 60
LOCAL = "order-service-local"


# ---------------------------------------------------------------- without a stack


class MadeUp(backup.Table):
    """A table in memory, read page by page and written under conditions as DynamoDB does."""

    class Occupied(Exception):
        def __init__(self, item: dict):
            self.response = {"Item": item}

    def __init__(self, items: list[dict], name: str = "events", arn: str = "arn:aws:dynamodb:us-east-1:000000000000:table/one"):
        self.name, self.arn, self.id, self.stack = name, arn, arn.rpartition("/")[2], LOCAL
        self.key = ["stream", "version"] if name == "events" else ["id"]
        self.items, self.reads, self.puts, self.fail_after = list(items), 0, 0, None
        self.dynamodb = mock.Mock()
        self.dynamodb.exceptions.ConditionalCheckFailedException = MadeUp.Occupied
        self.dynamodb.scan, self.dynamodb.put_item = self.scan, self.put

    def place(self, item: dict) -> dict:
        return {part: item[part] for part in self.key}

    def scan(self, Segment=0, TotalSegments=1, Limit=1_000, ExclusiveStartKey=None, Select="", **_) -> dict:
        if self.fail_after is not None and self.reads >= self.fail_after:
            raise OSError("the line is cut")
        self.reads += 1
        segment = lambda item: hashlib.md5(item[self.key[0]]["S"].encode()).digest()[0] % TotalSegments  # noqa: E731
        mine = [item for item in self.items if segment(item) == Segment]
        begin = [self.place(item) for item in mine].index(ExclusiveStartKey) + 1 if ExclusiveStartKey else 0
        page = mine[begin:begin + Limit]
        more = {"LastEvaluatedKey": self.place(page[-1])} if begin + Limit < len(mine) else {}
        return {"Count": len(page)} | ({} if Select else {"Items": page}) | more

    def put(self, Item: dict, **_):
        if self.fail_after is not None and self.puts >= self.fail_after:
            raise OSError("the line is cut")
        self.puts += 1
        for there in self.items:
            if self.place(there) == self.place(Item):
                raise MadeUp.Occupied(there)
        self.items.append(Item)


def commit(order: str, version: int, *types: str) -> dict:
    at = datetime.datetime(2026, 11, 27, 12, 0, version, tzinfo=datetime.timezone.utc).isoformat()
    events = json.dumps([{"type": each, "schema": 1, "data": {"name": "茶 & tea"}} for each in types])
    return {"stream": {"S": f"order#{order}"}, "version": {"N": str(version)}, "events": {"S": events}, "occurred_at": {"S": at},
            "event_types": {"L": [{"S": each} for each in types]}}


def commits(count: int) -> list[dict]:
    return [commit(f"{order:04}", version, *types) for order in range(count)
            for version, types in ((1, ("OrderCreated",)), (2, ("InventoryReserved", "PaymentCompleted")), (4, ("OrderConfirmed",)))]


def marked(items: list[dict], folder: Path) -> list[dict]:
    export = json.loads((folder / "events" / "manifest.json").read_text())["export"]
    return [item | {"imported": {"S": export}} for item in items]


def in_order(items: list[dict]) -> list[str]:
    return sorted(json.dumps(item, sort_keys=True) for item in items)


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "export"
        for name, value in (("FILE_LINES", 20), ("PAGE", 7)):
            smaller = mock.patch.object(backup, name, value)
            smaller.start()
            self.addCleanup(smaller.stop)
        silence = contextlib.redirect_stdout(io.StringIO())
        silence.__enter__()
        self.addCleanup(silence.__exit__, None, None, None)

    def export(self, table: MadeUp, segments: int = 3):
        backup.export(table, self.folder, segments, "", None)

    def refused(self, why: str, deed, *arguments):
        with self.assertRaisesRegex(Refused, why):
            deed(*arguments)

    def test_what_was_taken_out_comes_back_with_a_mark(self):
        table, other = MadeUp(commits(50)), MadeUp([], arn="arn:aws:dynamodb:us-east-1:000000000000:table/other")
        self.export(table)
        backup.load(other, self.folder)
        self.assertEqual(in_order(other.items), in_order(marked(table.items, self.folder)))
        manifest = json.loads((self.folder / "events" / "manifest.json").read_text())
        self.assertEqual((manifest["format"], manifest["stack"], manifest["newest"]), (1, LOCAL, "2026-11-27T12:00:04+00:00"))
        self.assertEqual(sum(file["lines"] for part in manifest["segments"] for file in part["files"]), 150)

    def test_other_tables_come_back_as_they_were(self):
        table, other = MadeUp([{"id": {"S": f"product#{n}"}, "stock": {"N": "7"}} for n in range(30)], "inventory"), MadeUp([], "inventory")
        self.export(table)
        backup.load(other, self.folder)
        self.assertEqual(in_order(other.items), in_order(table.items))

    def test_commits_are_read_without_the_mark(self):
        self.export(MadeUp([item | {"imported": {"S": "before"}} for item in commits(3)]))
        read = sorted(backup.commits_of(self.folder), key=lambda commit: (commit["stream"], commit["version"]))
        self.assertEqual(len(read), 9)
        self.assertEqual((read[1]["stream"], read[1]["version"], read[1]["events"][1]["data"]["name"]), ("order#0000", 2, "茶 & tea"))
        self.assertFalse(any("imported" in commit for commit in read))

    def test_only_their_owner_may_read_files(self):
        self.export(MadeUp(commits(5)))
        backup.load(MadeUp([]), self.folder)
        for path in self.folder.rglob("*"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o700 if path.is_dir() else 0o600, path)

    def test_an_export_that_was_cut_short_goes_on_where_it_was(self):
        table = MadeUp(commits(50))
        table.fail_after = 12
        self.assertRaises(OSError, self.export, table)
        self.refused("not complete", backup.load, MadeUp([]), self.folder)
        kept = {path: path.stat().st_mtime_ns for path in (self.folder / "events" / "data").iterdir()}
        self.assertTrue(kept)
        table.fail_after, table.reads = None, 0
        self.export(table)
        self.assertEqual({path: path.stat().st_mtime_ns for path in kept}, kept)
        self.assertLess(table.reads, 22, "what was there was not read again")
        self.assertEqual(in_order(list(backup.items_of(self.folder, "events"))), in_order(table.items))

    def test_an_import_that_was_cut_short_goes_on_where_it_was(self):
        table, other = MadeUp(commits(50)), MadeUp([])
        self.export(table)
        other.fail_after = 60
        self.assertRaises(OSError, backup.load, other, self.folder)
        self.assertTrue(0 < len(other.items) < 150)
        other.fail_after, other.puts = None, 0
        backup.load(other, self.folder)
        self.assertEqual(in_order(other.items), in_order(marked(table.items, self.folder)))
        self.assertLess(other.puts, 150, "files that were done were not put again")
        backup.load(other, self.folder)  # and whoever asks once more does no harm
        self.assertEqual(len(other.items), 150)

    def test_a_table_that_is_in_use_is_left_alone(self):
        self.export(MadeUp(commits(5)))
        used = MadeUp([commit("9999", 1, "OrderCreated")], arn="arn:aws:dynamodb:us-east-1:000000000000:table/used")
        self.refused("is not empty", backup.load, used, self.folder)
        self.assertEqual(len(used.items), 1)

    def test_what_was_written_while_an_import_was_down_is_found(self):
        self.export(MadeUp(commits(50)))
        for number, (written, why) in enumerate(((marked(commits(50), self.folder)[-1] | {"events": {"S": "[]"}}, "already, and it is another one"),
                                                 (commit("9999", 1, "OrderCreated"), "something else has written"))):
            other = MadeUp([], arn=f"arn:aws:dynamodb:us-east-1:000000000000:table/{number}")
            other.fail_after = 1
            self.assertRaises(OSError, backup.load, other, self.folder)
            other.fail_after, other.items = None, [written]
            self.refused(why, backup.load, other, self.folder)
            self.assertIn(written, other.items)

    def test_nothing_is_written_of_an_export_that_is_damaged(self):
        self.export(MadeUp(commits(50)))
        file = max((self.folder / "events" / "data").iterdir())
        whole = file.read_bytes()
        for spoiled, why in ((whole[:-1], "is not what was exported"), (None, "is missing")):
            file.unlink() if spoiled is None else file.write_bytes(spoiled)
            table = MadeUp([])
            self.refused(why, backup.load, table, self.folder)
            self.assertEqual(table.items, [])

    def test_a_stream_with_a_gap_is_no_export(self):
        self.refused("order#0003 has 3 of its 4 events", self.export, MadeUp([*commits(3), commit("0003", 1, "A"), commit("0003", 3, "B", "C")][:-1]
                                                                             + [commit("0003", 3, "B", "C")]))

    def test_a_folder_holds_one_export(self):
        self.export(MadeUp(commits(3)))
        self.refused("holds an export of", self.export, MadeUp([], arn="arn:aws:dynamodb:us-east-1:000000000000:table/other"))

    def test_orders_are_named_of_which_another_export_lacks_something(self):
        newer, older = self.folder, self.folder.with_name("older")
        self.export(MadeUp([*commits(3), commit("0003", 1, "OrderCreated"), {**commit("x", 1, "CustomerChanged"), "stream": {"S": "customer#x"}}]))
        backup.export(MadeUp(commits(3)[:-1]), older, 1, "", None)
        self.assertEqual(sorted(backup.orders(newer, None)), ["0000", "0001", "0002", "0003"])
        self.assertEqual(sorted(backup.orders(newer, older)), ["0002", "0003"])


class ByAws(Files):
    """The same form, where DynamoDB itself exports to S3: the emulator says that it has, and writes nothing."""

    at = datetime.datetime(2026, 11, 27, 12, 0, tzinfo=datetime.timezone.utc)

    def export(self, table: MadeUp, segments: int = 3):
        objects = s3_of(table.items)
        table.dynamodb.export_table_to_point_in_time.side_effect = lambda **asked: self.asked.append(asked) or {"ExportDescription": {"ExportArn": "arn:export"}}
        table.dynamodb.describe_export.return_value = {"ExportDescription": {"ExportStatus": "COMPLETED", "ExportManifest": "AWSDynamoDB/1/manifest-summary.json"}}

        def get(Bucket: str, Key: str) -> dict:
            if table.fail_after is not None and table.reads >= table.fail_after:
                raise OSError("the line is cut")
            table.reads += 1
            return {"Body": io.BytesIO(objects[Key])}

        self.asked = getattr(self, "asked", [])
        with mock.patch.object(backup, "client", lambda _: mock.Mock(get_object=get)):
            backup.export(table, self.folder, segments, "bucket", self.at)

    def test_an_export_that_was_cut_short_goes_on_where_it_was(self):
        super().test_an_export_that_was_cut_short_goes_on_where_it_was()
        self.assertEqual(len(self.asked), 1, "one export is paid for")
        self.assertEqual((self.asked[0]["ExportFormat"], self.asked[0]["S3Bucket"]), ("DYNAMODB_JSON", "bucket"))
        self.assertLessEqual(len(self.asked[0]["ClientToken"]), 36)

    def test_a_folder_holds_an_export_of_one_time(self):
        """Or whoever takes another moment for the last good one would bring back the first."""
        table = MadeUp(commits(3))
        self.export(table)
        self.export(table)  # the same once more
        for other in (self.at - datetime.timedelta(minutes=10), None):
            with mock.patch.object(self, "at", other):
                self.refused("holds an export as of 2026-11-27T12:00:00", self.export, table)
        self.assertEqual(len(self.asked), 1)


def s3_of(items: list[dict]) -> dict[str, bytes]:
    """What DynamoDB puts there."""
    lines, objects = [], {}
    for number, begin in enumerate(range(0, len(items) + 1, 12)):
        part = items[begin:begin + 12]
        body, key = gzip.compress("".join(json.dumps({"Item": item}) + "\n" for item in part).encode()), f"AWSDynamoDB/1/data/{number:04}.json.gz"
        objects[key] = body
        lines.append(json.dumps({"itemCount": len(part), "md5Checksum": base64.b64encode(hashlib.md5(body).digest()).decode(), "dataFileS3Key": key}))
    objects["AWSDynamoDB/1/manifest-files.json"] = "\n".join(lines).encode()
    objects["AWSDynamoDB/1/manifest-summary.json"] = json.dumps({"itemCount": len(items), "manifestFilesS3Key": "AWSDynamoDB/1/manifest-files.json"}).encode()
    return objects


class Doubted(unittest.TestCase):
    """`make doubt`, with the answers of a function that is not there."""

    def doubt(self, *answers: dict) -> tuple[int, list, str]:
        orders = [str(uuid.uuid4()) for _ in answers]
        function = mock.Mock(ask_again=mock.Mock(side_effect=[{"agreed": 0, "flagged": 0, **answer} for answer in answers]))
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "lost.txt"
        path.write_text("\n".join(orders))
        arguments = ["redeliver.py", "doubt", "--stack", LOCAL, "--orders", str(path), "--pace", "1000"]
        with mock.patch.object(redeliver, "Function", return_value=function) as made, mock.patch.object(sys, "argv", arguments), \
                contextlib.redirect_stdout(io.StringIO()) as said, self.assertRaises(SystemExit) as ended:
            redeliver.main()
        self.assertEqual(made.call_args.args, (f"{LOCAL}-compare-books",))
        self.assertEqual([call.args[0] for call in function.ask_again.call_args_list], [{"order_id": order, "doubted": True, "patience_seconds": 0} for order in orders])
        return ended.exception.code, orders, said.getvalue()

    def test_each_order_is_compared_whatever_its_events_say(self):
        code, orders, said = self.doubt({"agreed": 1}, {"flagged": 1}, {"flagged": 1})
        self.assertEqual(code, 0)
        self.assertIn("3 of 3 done, 0 failed; orders flagged: 2", said)
        self.assertNotIn("not compared", said)

    def test_an_order_that_is_under_way_is_named(self):
        code, orders, said = self.doubt({"agreed": 1}, {})
        self.assertIn(f"{orders[1]}: not compared", said)
        self.assertNotIn(orders[0], said)

    def test_what_names_no_order_is_refused_before_anything_is_asked(self):
        for named in ("--customer=anna", "--order=7"):
            with mock.patch.object(redeliver, "Function") as made, mock.patch.object(sys, "argv", ["redeliver.py", "doubt", "--stack", LOCAL, named]), \
                    self.assertRaises(SystemExit) as ended:
                redeliver.main()
            self.assertTrue(str(ended.exception.code).startswith("error: "), ended.exception.code)
            self.assertFalse(made.return_value.ask_again.called)


class Page(unittest.TestCase):
    """The commands of docs/restore.md for AWS, which nothing runs."""

    def setUp(self):
        page = (ROOT / "docs" / "restore.md").read_text()
        self.commands = page.partition("## On AWS, command by command")[2].partition("```sh aws\n")[2].partition("```")[0].splitlines()

    def place(self, command: str) -> int:
        found = [number for number, line in enumerate(self.commands) if line.startswith(command)]
        self.assertEqual(len(found), 1, f"{command}: {self.commands}")
        return found[0]

    def test_what_was_begun_has_ended_before_it_is_known_what_there_is(self):
        wait = self.place("sleep ")
        self.assertTrue(self.place("for each in $WRITERS; do aws lambda put-function-concurrency") < wait < self.place("make export STAGE=$STAGE FOLDER=damaged"))
        machine, functions = (ROOT / "infra" / "fulfilment.asl.json").read_text(), yaml_parse((ROOT / "template.yaml").read_text())
        steps = set(re.findall(r'"Resource": "\$\{(\w+)Arn\}"', machine))
        writers = [function["Properties"].get("Timeout", functions["Globals"]["Function"]["Timeout"]) for name, function in functions["Resources"].items()
                   if name in steps or name in ("CreateOrder", "CancelOrder", "RequestRefund", "RecordDelivery", "SkipStep")]
        self.assertEqual(len(writers), len(steps) + 5)
        self.assertGreater(int(self.commands[wait].split()[1]), max(writers))

    def test_no_canary_is_at_another_table(self):
        self.assertIn("AT_ONCE=1", self.commands[self.place("make deploy ")])

    def test_the_views_of_what_is_gone_are_given_up(self):
        """They are ahead of the events, so without that the switch is refused, and `reconcile` goes by them."""
        self.assertIn("ACCEPT=1", self.commands[self.place("make rebuild ")])

    def test_nothing_lines_up_behind_events_that_are_gone(self):
        redrive = next(number for number, line in enumerate(self.commands) if "dead-letters/redrive" in line)
        doubt, _ = self.doubts()
        self.assertTrue(self.place("make rebuild ") < redrive < doubt)
        self.assertIn("-e -redrive-dead-letters", self.commands[self.place("  tr ")], "it is not stopped")

    def test_what_was_under_way_is_doubted_once_it_has_come_to_rest(self):
        doubt, again = self.doubts()
        self.assertTrue(doubt < self.place("for each in $WRITERS; do aws lambda delete-function-concurrency") < again)

    def doubts(self) -> list[int]:
        return [number for number, line in enumerate(self.commands) if line.startswith("make doubt ")]


# ---------------------------------------------------------------- on a stack

PRODUCT = {"id": f"drill-{uuid.uuid4()}", "name": "Drill", "price": {"amount": 1999, "currency": "CNY"}, "stock": 100}
PLACES = ["Events", "Inventory", "Payments", "Shipments", "Notifications"]
READ_FROM = ["Orders", "Index", "Snapshots"]
# What happens to an order of each kind before the earlier export and after it; with None, it is not there yet.
KINDS = {
    "confirmed": ("confirm", ""),
    "delivered": ("deliver", ""),
    "declined": ("decline", ""),
    "cancelled": ("cancel", ""),
    "refunded": ("refund", ""),
    "stuck": ("get_stuck", ""),
    "confirmed, then refunded": ("confirm", "refund"),
    "confirmed, then cancelled": ("confirm", "cancel"),
    "confirmed, then delivered": ("confirm", "deliver"),
    "stuck, then skipped": ("get_stuck", "skip"),
    "open, then confirmed": ("", "confirm"),
    "open, then cancelled": ("", "cancel"),
    "open, then declined": ("", "decline"),
    "placed later": (None, "confirm"),
    "open": (None, ""),
}
METHODS = {"decline": "pm_card_declined", "get_stuck": "pm_refund_fails"}


def say(line: str):
    print(line, flush=True)


@unittest.skipUnless(stack.running(), "no local stack runs: `make up` starts one")
class Drill(unittest.TestCase):
    """Loses everything, and brings it back. Before that, the events of an earlier time are restored beside providers that know more."""

    maxDiff = 2_000

    def setUp(self):
        self.began, self.since = time.monotonic(), datetime.datetime.now(datetime.timezone.utc)
        environment = stack.client_environment(stack.running()["port"])
        patched = mock.patch.dict("os.environ", environment)
        patched.start()
        self.addCleanup(patched.stop)
        lines = (line.split("=", 1) for line in stack.STACK_ENV.read_text().splitlines())
        self.stack = {name: value.strip('"') for name, value in lines}
        self.staff, self.customer = (Service(self.stack["API_URL"], stack.token_of(who)) for who in ("staff-1", "customer-1"))
        self.customer_id = self.stack["CUSTOMER_1_ID"]
        self.dynamodb, self.functions = backup.client("dynamodb"), backup.client("lambda")
        self.folder, self.looked_after = stack.STATE / "drill", False
        self.orders: dict[str, str] = {}
        self.keys = collections.defaultdict(lambda: str(uuid.uuid4()))  # what a client would send again
        shutil.rmtree(self.folder, ignore_errors=True)
        self.addCleanup(stack.METER.unlink, missing_ok=True)
        # What looks after orders by itself would be counted as what the restore has started.
        for rule in ("ReconcileRule", "ReconcileReminder", "CompareBooksRule"):
            self.switch_rule(rule, "disable_rule")
            self.addCleanup(self.switch_rule, rule, "enable_rule")

    def switch_rule(self, rule: str, how: str):
        getattr(backup.client("events"), how)(Name=self.resource(rule))

    def resource(self, name: str) -> str:
        described = backup.client("cloudformation").describe_stack_resource(StackName=LOCAL, LogicalResourceId=name)
        return described["StackResourceDetail"]["PhysicalResourceId"]

    def step(self, what: str):
        say(f"{time.monotonic() - self.began:6.1f} s  {what}")

    # ---------------------------------------------------------------- what happens to orders

    def post(self, who: Service, kind: str, what: str, body: dict | None = None):
        """Under the same key whenever it is done again."""
        who.expect([200, 201, 202], "POST", f"/api/v1/orders/{self.orders[kind]}/{what}", body, self.keys[f"{kind} {what}"])

    def confirm(self, kind: str):
        self.wait(kind, "confirmed")

    def decline(self, kind: str):
        self.wait(kind, "rejected")

    def cancel(self, kind: str):
        self.post(self.customer, kind, "cancel", {"reason": "changed my mind"})
        self.wait(kind, "cancelled")

    def get_stuck(self, kind: str):
        self.post(self.customer, kind, "cancel", {"reason": "changed my mind"})
        self.wait(kind, "needs_attention")

    def skip(self, kind: str):
        self.post(self.staff, kind, "fulfilment/skip", {"step": "refund-payment", "reason": "paid back by bank transfer"})
        self.wait(kind, "cancelled")

    def deliver(self, kind: str):
        self.post(self.staff, kind, "delivery")
        self.wait(kind, "confirmed", lambda view: view["shipment"]["status"] == "delivered")

    def refund(self, kind: str):
        self.post(self.staff, kind, "refunds", {"amount": {"amount": 500, "currency": "CNY"}, "reason": "one was chipped"})
        self.wait(kind, "", lambda view: [refund["status"] for refund in view["refunds"]] == ["completed"])

    def wait(self, kind: str, status: str, more=lambda view: True):
        """For this status, or for any if it is empty."""
        until, view = time.monotonic() + MINUTE, {}
        while time.monotonic() < until:
            code, view = self.staff.call("GET", f"/api/v1/orders/{self.orders[kind]}")
            if code == 200 and status in ("", view["status"]) and more(view):
                return
            time.sleep(0.1)
            if self.looked_after:
                self.ask("reconcile", patience_seconds=2)
        self.fail(f"{kind!r} is not {status}: {json.dumps(view)}")

    # ---------------------------------------------------------------- tables

    def backup(self, *arguments: str) -> str:
        done = subprocess.run([sys.executable, ROOT / "infra" / "backup.py", *arguments, "--stack", LOCAL], capture_output=True, text=True, timeout=5 * MINUTE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for line in done.stdout.splitlines():
            if "items in" in line or "are in" in line:
                say(f"          {line}")
        return done.stdout

    def table(self, name: str) -> str:
        return self.stack[f"{name.upper()}_TABLE"]

    def items(self, name: str, **how) -> list[dict]:
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.table(name), ConsistentRead=True, **how)
        return [item for page in pages for item in page["Items"]]

    def wipe(self, *names: str):
        count = 0
        for name in names:
            described = self.dynamodb.describe_table(TableName=self.table(name))["Table"]
            key = [part["AttributeName"] for part in described["KeySchema"]]
            requests = [{"DeleteRequest": {"Key": {part: item[part] for part in key}}} for item in self.items(name)]
            for begin in range(0, len(requests), 25):
                left = self.dynamodb.batch_write_item(RequestItems={self.table(name): requests[begin:begin + 25]})["UnprocessedItems"]
                self.assertEqual(left, {})
            count += len(requests)
        # Functions that keep commits start anew, as all do where a restored table has another name.
        for function in ("get-order-events", "get-timeline"):
            aws.start_anew(self.functions, f"{LOCAL}-{function}")
        self.step(f"wiped: {count:,} items of {', '.join(names).lower()}")

    @property
    def queue(self) -> str:
        return self.resource("FulfilmentQueue")

    def hold(self, held: bool):
        """Orders are placed, and nobody begins with them."""
        mapping, = self.functions.list_event_source_mappings(FunctionName=f"{LOCAL}-start-fulfilment:live")["EventSourceMappings"]
        self.functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=not held)
        time.sleep(1)

    # ---------------------------------------------------------------- what the service says

    def pages(self, path: str, at_most: int = 50) -> list[dict]:
        """Of a list, with what it says of itself."""
        found = []
        while path and len(found) < at_most:
            found.append(self.staff.expect([200], "GET", path)[1])
            path = found[-1]["next"]
        return found

    def answers(self) -> dict:
        """Of each order what anybody can ask, and of all what lists, totals, searches and counts say."""
        asked = [f"orders/{order}{of}" for order in self.orders.values() for of in ("", "/events", "/ledger", "/timeline")]
        asked += [f"orders/search?q={order}" for order in list(self.orders.values())[:3]]
        asked += ["orders?status=needs_attention", "orders?status=created", "orders?status=rejected", f"customers/{self.customer_id}",
                  f"products/{PRODUCT['id']}"]
        # Without a window, what is asked after the next full hour would be of others.
        window = lambda days: urllib.parse.urlencode(  # noqa: E731
            {"from": f"{self.since - datetime.timedelta(days):%FT%TZ}", "to": f"{self.since + datetime.timedelta(hours=1):%FT%TZ}"})
        asked += [f"stats?by={by}&{window(days)}" for by, days in (("hour", 1), ("day", 30))]
        asked += [f"events?type={each}&{window(0)}&page_size=100" for each in ("OrderCreated", "OrderConfirmed", "OrderFlagged", "PaymentRefunded", "ShipmentDelivered")]
        get = lambda path: (path, self.staff.call("GET", f"/api/v1/{path}"))  # noqa: E731
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = dict(pool.map(get, asked))
        for who in ("CUSTOMER_1_ID", "CUSTOMER_2_ID"):
            found[f"all orders of {who}"] = 200, self.pages(f"/api/v1/orders/customer/{self.stack[who]}?page_size=100")
        return found

    def views(self) -> dict:
        """Every order's view, every count and every entry for a search, by its key within its generation."""
        found, counts = {}, collections.Counter()
        live = str(self.rebuild.ask("status")["live"])
        for name, key in (("Orders", ["key"]), ("Index", ["term", "place"])):
            for item in self.items(name):
                generation, _, rest = item[key[0]]["S"].partition("/")
                others = {attribute: value for attribute, value in item.items() if attribute not in key}
                if generation == live and rest.startswith("count/"):  # of orders by status, in whichever part
                    counts.update({status: int(number["N"]) for status, number in others.items()})
                # Lists of a customer's orders and of events are cut by what came together: what they say is asked page by page.
                elif generation == live and (rest.startswith("order/") or name == "Index" and not rest.startswith("event/")):
                    found[name, rest, *(item[part]["S"] for part in key[1:])] = json.dumps(others, sort_keys=True, default=repr).replace(f'"{live}/', '"')
        return found | {("Orders", "counts"): +counts}

    @property
    def rebuild(self) -> rebuild.Rebuild:
        return rebuild.Rebuild(LOCAL, "orders")

    @contextlib.contextmanager
    def nothing_starts(self, what: str):
        """Whatever is called, published, started or sent meanwhile is counted by the emulator."""
        before = self.effects()
        stack.METER.write_text("")
        yield
        time.sleep(3)  # streams are read every second
        lines = [json.loads(line) for line in stack.METER.read_text().splitlines()]
        stack.METER.unlink()
        calls = collections.Counter(line["operation"] for line in lines if line["what"] == "call")
        called = collections.Counter(line["function"].removeprefix(f"{LOCAL}-") for line in lines if line["what"] == "invocation")
        started = {"executions started": calls["StartExecution"], "events published": calls["PutEvents"], "mails sent": calls["SendEmail"],
                   "batches of the stream": called["project-orders"] + called["publish-events"]}
        self.step(f"{what}: " + ", ".join(f"{count} {name}" for name, count in started.items()))
        self.assertEqual(sum(started.values()), 0, called)
        self.assertEqual(self.effects(), before)

    def effects(self) -> dict:
        """What a repeated event would leave behind, besides."""
        executions = backup.client("stepfunctions").get_paginator("list_executions")
        of = lambda machine: sum(len(page["executions"]) for page in executions.paginate(stateMachineArn=self.stack[machine]))  # noqa: E731
        return {machine: of(machine) for machine in ("FULFILMENT_ARN", "FULFILMENT_EXPRESS_ARN")}

    def differing(self) -> list[str]:
        """The kinds of order whose books and whose providers' do not say the same."""
        return [kind for kind, order in self.orders.items() if (found := self.staff.call("GET", f"/api/v1/orders/{order}/ledger"))[0] != 200 or not found[1]["agrees"]]

    # ---------------------------------------------------------------- the drill

    def test_what_was_lost_comes_back(self):
        self.addCleanup(self.hold, False)
        self.hold(False)
        self.staff.put_product(PRODUCT)
        self.customer.expect([200, 201], "PUT", f"/api/v1/customers/{self.customer_id}", {"first_name": "Wei", "last_name": "Li", "email": "li.wei@example.com"})
        self.go([kind for kind, (before, _) in KINDS.items() if before], placed=True, then=0)
        self.hold(True)
        self.go([kind for kind, (before, _) in KINDS.items() if before == ""], placed=True)
        self.step(f"{len(self.orders)} orders are placed: {', '.join(self.orders)}")
        earlier, newest = self.folder / "earlier", self.folder / "newest"
        self.backup("export", "--folder", str(earlier))

        self.hold(False)
        self.go(["placed later"], placed=True)
        self.go([kind for kind, (_, after) in KINDS.items() if after], then=1)
        self.hold(True)
        self.go(["open"], placed=True)
        self.step("orders have gone on, and two more are placed, of which nobody begins with one")
        self.assertEqual(self.differing(), [])
        self.backup("export", "--folder", str(newest), "--tables", ",".join(backup.TABLES))
        answers, views = self.answers(), self.views()
        self.assertEqual({path: answer for path, (code, answer) in answers.items() if code != 200}, {})

        # What begins with the order that is open is lost as well.
        backup.client("sqs").purge_queue(QueueUrl=self.queue)
        self.hold(False)
        self.earlier(earlier, newest)
        self.everything(newest, answers, views)
        shutil.rmtree(self.folder)  # it holds what customers have told; until here, it is all that is left of what was lost

    def go(self, kinds: list[str], placed: bool = False, then: int | None = None):
        """Places an order of each kind, one after the other so that they are always listed in this order; then what happens to them."""
        for kind in kinds if placed else []:
            method = next((METHODS[deed] for deed in KINDS[kind][0:2] if deed in METHODS), "pm_card_visa")
            self.orders[kind] = self.customer.place(self.customer_id, [PRODUCT["id"]], method, self.keys[kind])
        if then is not None:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda kind: self.happen(kind, KINDS[kind][then], first=not then or not KINDS[kind][0]), kinds))

    def happen(self, kind: str, deed: str, first: bool):
        if first and deed not in ("confirm", "decline"):
            self.confirm(kind)
        getattr(self, deed)(kind)

    def earlier(self, earlier: Path, newest: Path):
        """Orders are as they were at an earlier time. Their providers have gone on, and nobody tells them otherwise."""
        lacking = self.backup("orders", "--folder", str(newest), "--lacking", str(earlier)).split()
        self.assertEqual(set(lacking) & set(self.orders.values()), {self.orders[kind] for kind, (before, after) in KINDS.items() if before is None or after})
        with self.nothing_starts("the events of an earlier time are brought back"):
            self.wipe("Events", "Snapshots")
            self.backup("import", "--folder", str(earlier))
        # As a rebuild would have it, but for lists: views of what there is, and none of what there is not.
        lost = [kind for kind, (before, _) in KINDS.items() if before is None]
        for kind, order in self.orders.items():
            if kind in lost:
                self.forget_view(order)
            else:
                self.ask("reproject-events", order_id=order)
        differing = self.differing()
        self.step(f"the books differ of: {', '.join(differing)}")
        self.assertEqual(set(differing), {kind for kind, (before, after) in KINDS.items() if before is None or after not in ("", "decline")})

        # What was under way is started again, and finds what it has done. Where that was undone meanwhile, the stock is barred. From now on
        # `reconcile` looks more often than its schedule would have it: an execution may have the name of one that there was before.
        self.looked_after = True
        barred = ["open, then cancelled", "open, then declined"]
        self.wait("open, then confirmed", "confirmed")
        for kind in barred:
            self.wait(kind, "needs_attention", lambda view: view["attention"]["step"] == "reserve-inventory")
        left = self.differing()
        self.step(f"reconcile settles: {', '.join(kind for kind in differing if kind not in left)}")
        self.assertEqual(set(differing) - set(left), {"open, then confirmed"})

        # At rest, nobody looks at them unless told to.
        flagged = lambda **how: [kind for kind, order in self.orders.items()  # noqa: E731
                                 if self.ask("compare-books", order_id=order, patience_seconds=0, **how)["flagged"]]
        self.assertEqual(flagged(), [])
        found = flagged(doubted=True)
        self.step(f"compare-books finds, once it is told to look: {', '.join(found)}")
        self.assertEqual(set(found), {"confirmed, then refunded", "confirmed, then cancelled", "confirmed, then delivered"})
        for kind in found:
            self.wait(kind, "needs_attention")

        # The same once more is not done twice.
        for kind in barred:
            self.cancel(kind)
        for kind in [*found, "stuck, then skipped"]:
            getattr(self, KINDS[kind][1])(kind)
        self.post(self.staff, "confirmed, then refunded", "fulfilment/resume", {"reason": "it is recorded now"})
        self.go(["placed later"], placed=True)
        self.confirm("placed later")
        self.assertEqual(self.differing(), ["open"])  # which nobody places again
        self.step("what is asked once more, under the key that it had, settles the rest")

    def forget_view(self, order: str):
        for item in self.items("Orders", ProjectionExpression="#key", ExpressionAttributeNames={"#key": "key"}):
            if item["key"]["S"].endswith(f"/order/{order}"):
                self.dynamodb.delete_item(TableName=self.table("Orders"), Key=item)

    def everything(self, newest: Path, answers: dict, views: dict):
        with self.nothing_starts("everything is lost and brought back"):
            self.wipe(*PLACES, *READ_FROM)
            self.assertEqual(self.staff.call("GET", f"/api/v1/orders/{self.orders['confirmed']}")[0], 404)
            building = self.rebuild.ask("begin", segments=4)["building"]  # as `make rebuild` does, and the events come while it waits until everybody knows of it
            self.backup("import", "--folder", str(newest), "--tables", ",".join(backup.TABLES))
            execution = self.rebuild.start(segments=[0, 1, 2, 3], units=None, check=False, accept=False)
            deadline = time.monotonic() + 3 * MINUTE
            while self.rebuild.ask("status")["live"] != building:
                self.assertLess(time.monotonic(), deadline, "the new views are not read in time")
                self.assertEqual(self.rebuild.look(execution)["status"], "RUNNING")
                time.sleep(1)
            time.sleep(6)  # for five seconds functions may read the generation before
            self.step(f"the views are built anew: generation {building}")
        after, shown = self.answers(), self.views()
        for path, answer in answers.items():
            with self.subTest(path):
                self.assertEqual(after[path], answer)
        others = [(key, views.get(key), shown.get(key)) for key in views.keys() | shown.keys() if views.get(key) != shown.get(key)]
        self.assertEqual(others[:5], [], len(others))
        self.step(f"{len(answers)} answers and {len(views):,} items of the read model are as they were")
        self.looked_after = True
        self.wait("open", "confirmed")
        self.step("the order that was open has gone on")
        while (ended := self.rebuild.look(execution)["status"]) == "RUNNING":
            self.assertLess(time.monotonic(), deadline, "the views of before are not gone in time")
            time.sleep(1)
        self.assertEqual(ended, "SUCCEEDED")
        self.step("done")

    def ask(self, function: str, **event) -> dict:
        return Function(f"{LOCAL}-{function}", timeout=5 * MINUTE).ask_again(event)


if __name__ == "__main__":
    unittest.main()

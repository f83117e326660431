"""Walks docs/runbook.md: for each alarm there is a drill that makes the trouble on the running local stack, sees that the alarm would ring,
follows the alarm's section, and looks how it ends; or UNDRILLED says why it cannot be made here.

A drill knows the page and nothing else: `follow` runs a command that stands in the section, in a shell that the page has prepared, with
what the page says to fill in. The emulator keeps none of the figures that alarms listen to, so they are taken from where CloudWatch
takes them (lines of the log, queues, executions, invocations), and tests/alarms_suite.py says whether that rings. What must go on for
minutes is seen once, and taken to go on. For `deploy again`, the drill itself takes back what a deployment would.

The alarms that take a deployment back have drills as well. The emulator has no CodeDeploy and leads an alias to one version only, so all calls
go to the new one, and the drill takes them back; that CodeDeploy looks at these alarms is what tests/template_suite.py holds.

Only for a stack of tests, whose state machine does not wait (stack.py): LOCAL_STACK=test .local/tools/sam/bin/python tests/drills_suite.py
"""
from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import re
import subprocess
import sys
import time
import unittest
import uuid

import alarms_suite
import aws_cli
import botocore.session
import docs_suite
import template_suite
from docs_suite import ROOT, Page, stack

sys.path.insert(0, str(ROOT / "infra"))

import aws  # noqa: E402
from service import ADDRESS, Service  # noqa: E402

MINUTE = 60
PREPARED = "Before you need it"
TAKEN_BACK = "A deployment that was taken back"
STEP_FAILS = "ProcessPaymentVersionFails"  # each step has such an alarm, and this drill is for all
LIKE_THESE = 7  # times as many orders as a drill places, in five minutes: alarms look at 20 at least
FILLED = {"STAGE=prod": "STAGE=local", "you@example.com": "staff-1"}  # what the page says to put there, on a laptop
TOO_LONG = "{} cannot be had in a test"
UNDRILLED = {
    "OrdersTimedOut": TOO_LONG.format("an execution of 24 hours, whose end the emulator would not bring about either"),
    "EventsNotPublished": TOO_LONG.format("a record that is tried for 23 hours and given up") + "; tests/system/replay.rs gives lost events again",
    "EventsNotProjected": TOO_LONG.format("a record that is tried for 23 hours and given up") + "; tests/system/replay.rs brings lost views back",
    "DeadLettersExpire": TOO_LONG.format("a week in which letters lie there on each day") + "; what to do is what the alarm of its queue says, which has a drill",
    "FunctionsDie": "the emulator does not write Lambda's own line of an invocation's end; `make chaos` kills functions",
    "TablesThrottled": "the emulator does not count what its tables refuse; `make chaos` has them refuse a third of all calls for half a minute",
    "TablesFail": "the emulator does not count its tables' errors, and the page says to do nothing; `make chaos` has two tables fail for a minute",
    "CostsTooMuch": "a million units in five minutes are more than the emulator does",
}
DRILLED: dict[str, tuple[str, ...]] = {}  # drill -> the alarms that it rings


def drill(*alarms: str):
    def noted(test):
        DRILLED[test.__name__] = alarms
        return test

    return noted


def client(service: str):
    return botocore.session.get_session().create_client(service)


@functools.cache
def setting(name: str) -> str:
    return dict(line.split("=", 1) for line in stack.STACK_ENV.read_text().splitlines())[name].strip('"')


def section(heading: str, level: str = "###") -> Page:
    return Page(heading, re.split(rf"^{level} {heading}$", alarms_suite.RUNBOOK, flags=re.M)[1].split(f"\n{level[:2]}", 1)[0].split("\n### ")[0])


@functools.cache
def services(who: str) -> Service:
    return Service(setting("API_URL"), stack.token_of(who))


class Table(unittest.TestCase):
    def test_every_alarm_has_a_drill_or_a_reason(self):
        drilled = {alarm for alarms in DRILLED.values() for alarm in alarms}
        found = alarms_suite.every_alarm(alarms_suite.prod())
        steps = {name for name in found if name.endswith("VersionFails") and name.removesuffix("VersionFails") not in template_suite.GRADUAL}
        self.assertEqual(sorted([*drilled, *UNDRILLED]), sorted(found.keys() - steps | {STEP_FAILS}))
        but_whose = lambda name: {key: value for key, value in found[name].items() if key != "Dimensions"}  # noqa: E731
        self.assertEqual([name for name in steps if but_whose(name) != but_whose(STEP_FAILS)], [])

    def test_every_drill_says_what_it_rings(self):
        self.assertEqual({name for name in dir(Drills) if name.startswith("test_")}, set(DRILLED))


class Drills(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not (stack.STACK == "test" and stack.running()):
            raise AssertionError("no stack of tests runs: LOCAL_STACK=test python3 infra/local/stack.py up")
        os.environ.update(stack.client_environment(stack.running()["port"]))
        command = aws_cli.on_the_path()
        folder = command.__enter__()
        cls.addClassCleanup(command.__exit__, None, None, None)
        cls.environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
        text = next(block.text for block in section(PREPARED, "##").blocks if block.second == "aws")
        for said, filled in FILLED.items():
            assert said in text, f"the page does not say {said}"
            text = text.replace(said, filled)
        names = re.findall(r"^(\w+)\(\)", text, re.M)
        cls.prepared = cls.shell(f"{text}\ndeclare -f {' '.join(names)}\ndeclare -p STAGE STACK LOGS API_URL STAFF")
        cls.main, cls.alarms = alarms_suite.prod(), alarms_suite.every_alarm(alarms_suite.prod())

    @classmethod
    def shell(cls, text: str) -> str:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=ROOT, env=cls.environment, capture_output=True, text=True, timeout=3 * MINUTE)
        assert not done.returncode, f"{text.splitlines()[-1]}: {done.stdout}{done.stderr}"
        return done.stdout

    def setUp(self):
        self.began = time.monotonic()
        self.since = datetime.datetime.now(datetime.timezone.utc)
        self.order, self.is_mended = "", False
        stack.METER.touch()
        self.addCleanup(stack.METER.unlink)
        self.product = f"drill-{uuid.uuid4()}"
        services("staff-1").put_product({"id": self.product, "name": "Tea", "price": {"amount": 1999, "currency": "CNY"}, "stock": 100})

    def tearDown(self):
        for alarm in DRILLED[self._testMethodName] if self.is_mended else ():
            if self.alarms[alarm].get("Namespace") == self.main.name:
                self.assertFalse(alarms_suite.counted(self.alarms[alarm], self.lines(), self.main), f"{alarm} goes on")
        print(f"{time.monotonic() - self.began:5.0f} s  {self._testMethodName.removeprefix('test_').replace('_', ' ')}", flush=True)

    # ------------------------------------------------------------ the page

    def follow(self, alarm: str, beginning: str, **filled: str) -> str:
        """Runs the command of this alarm's section that begins so, with what is to be filled in, and answers what it prints."""
        page = section(TAKEN_BACK, "##") if alarm in alarms_suite.watch_deployments(self.main) else section(alarm)
        found = {line for code in page.code for line in (code.strip(), *code.splitlines()) if line.startswith(beginning) and line in code}
        self.assertTrue(found, f"{alarm} does not say {beginning}")
        text = min(found, key=len)
        for said, value in filled.items():
            self.assertIn(said, text)
            text = text.replace(said, value)
        return self.shell(f"{self.prepared}\nORDER={self.order}\n{text}")

    # ------------------------------------------------------------ figures

    def lines(self) -> list[dict]:
        return [line for *_, line in aws_cli.lines(setting("FUNCTION_LOGS"), self.since)]

    def metered(self) -> list[dict]:
        return [json.loads(line) for line in stack.METER.read_text().splitlines()]

    def invocations(self, deed: str, failed: bool = False) -> int:
        return sum(line["what"] == "invocation" and line["function"].endswith(f"-{deed}") and (line["failed"] or not failed) for line in self.metered())

    def errors_of(self, deed: str, version: str) -> float | None:
        """The share of this version's calls that ended in an error."""
        failed = [line["failed"] for line in self.metered()
                  if line["what"] == "invocation" and line["function"].endswith(f"-{deed}") and line["version"] == version]
        return sum(failed) / len(failed) if failed else None

    def figure(self, name: str, least: int = 0) -> int:
        """What functions have told of it. They tell it after what it is about shows, so as many as are sure to come are waited for."""
        told = lambda: sum(line.get(name, 0) for line in self.lines())  # noqa: E731
        self.until(f"{name} is told", lambda: told() >= least)
        return told()

    def executions(self, machine: str) -> int:
        found = client("stepfunctions").list_executions(stateMachineArn=setting(machine), maxResults=1000)["executions"]
        return sum(one["startDate"] >= self.since for one in found)

    def appended(self) -> int:
        return sum(line.get("operation") == "PutItem" and setting("EVENTS_TABLE") in line.get("write_units", {}) and line["status"] == 200
                   for line in self.metered())

    def rings(self, alarm: str, **series: float | None) -> bool:
        """With these figures in each of as many periods as the alarm wants to see; of a figure by lines, with those since the drill began."""
        found = self.alarms[alarm]
        periods = found["EvaluationPeriods"]
        if not series:
            series = {"value": alarms_suite.counted(found, self.lines(), self.main)}
        case = {name: [None if value is None else 0, *[value] * periods] for name, value in series.items()}
        if "Metrics" not in found and series.get("value") is None:
            case = {"value": [1, *[None] * (periods + 2)]}
        values = alarms_suite.values_of(found, case, True, self.main)
        return alarms_suite.calls(found, values) if "AlarmActions" in found else alarms_suite.state(found, values) == "ALARM"

    def assert_rings(self, alarm: str, **series: float | None):
        self.assertTrue(self.rings(alarm, **series), f"{alarm} is silent at {series}")

    def assert_quiet(self, alarm: str, **series: float | None):
        self.assertFalse(self.rings(alarm, **series), f"{alarm} rings at {series}")

    def mended(self):
        """From now on, no line may count any more that an alarm of this drill listens to, and what was counted is nothing."""
        self.is_mended, self.since = True, datetime.datetime.now(datetime.timezone.utc)
        stack.METER.write_text("")

    def letters(self, url: str) -> int:
        counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(map(int, client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"].values()))

    # ------------------------------------------------------------ trouble

    @contextlib.contextmanager
    def denied(self, deed: str, actions: str, resource: str = "*"):
        """Takes a right from a function's role, as a change by hand may have done, until it is deployed again."""
        role = client("lambda").get_function_configuration(FunctionName=f"order-service-local-{deed}", Qualifier="live")["Role"].rsplit("/", 1)[1]
        statement = {"Effect": "Deny", "Action": actions, "Resource": resource}
        iam = client("iam")
        iam.put_role_policy(RoleName=role, PolicyName="drill", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        try:
            yield
        finally:
            iam.delete_role_policy(RoleName=role, PolicyName="drill")

    @staticmethod
    def called(deed: str) -> str:
        """The version that everybody calls."""
        return client("lambda").get_alias(FunctionName=f"order-service-local-{deed}", Name="live")["FunctionVersion"]

    @contextlib.contextmanager
    def deployed(self, deed: str, **spoilt: str | None):
        """Has everybody call a new version of a function, with variables that are wrong or missing, until it is taken back."""
        functions, name, before = client("lambda"), f"order-service-local-{deed}", self.called(deed)
        variables = functions.get_function_configuration(FunctionName=name, Qualifier="live")["Environment"]["Variables"]

        def have(changed: dict[str, str | None]):
            there = {key: value for key, value in changed.items() if value is not None}
            functions.update_function_configuration(FunctionName=name, Environment={"Variables": there})
            aws.await_update(functions, name)

        try:
            have(variables | spoilt)
            aws.go_over(functions, name)
            yield self.called(deed)
        finally:
            functions.update_alias(FunctionName=name, Name="live", FunctionVersion=before)
            have(variables)

    @contextlib.contextmanager
    def stopped(self, deed: str):
        """Switches off what calls a function, and on again in case the drill has failed to."""
        functions = client("lambda")
        (mapping,) = functions.list_event_source_mappings(FunctionName=f"order-service-local-{deed}:live")["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        time.sleep(1)
        stack.METER.write_text("")  # what it was called with before is done, and is nothing of this drill's
        try:
            yield
        finally:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    # ------------------------------------------------------------ orders

    def order_of_one(self, payment_method: str = "pm_card_visa", postal_code: str = "200001") -> tuple[int, dict]:
        items = [{"product_id": self.product, "quantity": 1}]
        body = {"customer_id": setting("CUSTOMER_1_ID"), "items": items, "shipping_address": ADDRESS | {"postal_code": postal_code}, "payment_method": payment_method}
        return services("customer-1").call("POST", "/api/v1/orders", body)

    def place(self, **asked: str) -> str:
        code, answer = self.order_of_one(**asked)
        self.assertEqual(code, 201, answer)
        self.order = answer["order_id"]
        return self.order

    def status(self, order: str) -> str:
        code, view = services("staff-1").call("GET", f"/api/v1/orders/{order}")
        return view["status"] if code == 200 else f"answered with {code}"

    def until(self, what: str, holds, seconds: float = MINUTE):
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            self.assertLess(time.monotonic(), deadline, f"not in time: {what}")
            time.sleep(0.2)
        return found

    def await_status(self, status: str, *orders: str):
        for order in orders or [self.order]:
            self.until(f"{order} is {self.status(order)}, not {status}", lambda: self.status(order) == status)

    def cancel(self):
        services("customer-1").expect([202], "POST", f"/api/v1/orders/{self.order}/cancel", {"reason": "changed my mind"})

    def assert_books_agree(self, *orders: str):
        for order in orders or [self.order]:
            ledger = services("staff-1").expect([200], "GET", f"/api/v1/orders/{order}/ledger")[1]
            self.assertTrue(ledger["agrees"], ledger)

    # ------------------------------------------------------------ money and orders

    @drill("OrdersNotConfirmed", "OrdersLate", "OrdersStuck", "OrdersNeedAttention")
    def test_nobody_can_be_charged_until_it_is_mended_and_all_go_on_together(self):
        with self.denied("process-payment", "dynamodb:*", f"arn:aws:dynamodb:*:*:table/{setting('PAYMENTS_TABLE')}"):
            orders = [self.place() for _ in range(20)]
            self.await_status("needs_attention", *orders)
            begun = self.invocations("validate-order")
            self.assertGreaterEqual(begun, 20)
            self.until("executions have failed", lambda: set(orders) <= set(self.follow("OrdersStuck", "aws stepfunctions list-executions").split()))
            self.assert_rings("OrdersNotConfirmed", begun=begun, told=self.invocations("send-confirmation") or None, untold=None)
            self.assert_rings("OrdersLate", begun=20, in_time=100, handed_over=20)
            self.assert_rings("OrdersStuck", value=20)
            self.assert_rings("OrdersNeedAttention")
            self.assertIn("up", self.follow("OrdersNotConfirmed", 'curl "$API_URL/health"'))
            self.assertIn("process-payment", self.follow("OrdersLate", 'said "step not done"'))
        told = [json.loads(line.split(" ", 1)[1]) for line in self.follow("OrdersNeedAttention", 'said "order needs attention"').splitlines()]
        (cause,) = {(line["step"], line["reason"]) for line in told if line["order_id"] in orders}
        self.assertIn("OrderFlagged", self.follow("OrdersNeedAttention", "get orders/$ORDER/events"))
        dry = json.loads(self.follow("OrdersNeedAttention", "post fulfilment/resume", STEP=cause[0], REASON=cause[1]))
        self.assertLessEqual(set(orders), set(dry["order_ids"]))
        self.mended()
        done = json.loads(self.follow("OrdersNeedAttention", "post fulfilment/resume", STEP=cause[0], REASON=cause[1], true="false"))
        self.assertGreaterEqual(done["resumed"], 20)
        self.await_status("confirmed", *orders)
        self.assert_books_agree(*orders)

    @drill("MoneyDoesNotAgree")
    def test_a_provider_has_lost_a_refund_until_it_is_put_right_there(self):
        self.place()
        self.await_status("confirmed")
        self.cancel()
        self.await_status("cancelled")
        books = client("dynamodb")
        (entry,) = books.query(TableName=setting("PAYMENTS_TABLE"), KeyConditionExpression="order_id = :id AND begins_with(entry, :refund)",
                               ExpressionAttributeValues={":id": {"S": self.order}, ":refund": {"S": "refund#"}})["Items"]
        books.delete_item(TableName=setting("PAYMENTS_TABLE"), Key={name: entry[name] for name in ("order_id", "entry")})
        self.follow("MoneyDoesNotAgree", "aws lambda invoke")
        self.assert_rings("MoneyDoesNotAgree")
        self.assertIn(self.order, self.follow("MoneyDoesNotAgree", 'said "order needs attention"'))
        self.assertFalse(json.loads(self.follow("MoneyDoesNotAgree", "get orders/$ORDER/ledger"))["agrees"])
        books.put_item(TableName=setting("PAYMENTS_TABLE"), Item=entry)
        self.await_status("needs_attention")
        self.mended()
        self.follow("MoneyDoesNotAgree", "post orders/$ORDER/fulfilment/resume")
        self.await_status("cancelled")
        self.until("it is compared", lambda: '"agreed": 1' in self.follow("MoneyDoesNotAgree", "aws lambda invoke"))
        self.assert_books_agree()

    def view(self) -> dict:
        return services("staff-1").expect([200], "GET", f"/api/v1/orders/{self.order}")[1]

    @drill("OrdersNeedAttention")
    def test_a_carrier_keeps_the_parcel_until_a_person_answers_for_it(self):
        self.place(postal_code="SANDBOX-KEEP")
        self.await_status("confirmed")
        self.cancel()
        self.await_status("needs_attention")
        self.assert_rings("OrdersNeedAttention")
        self.assertIn("cancel-shipment", self.follow("OrdersNeedAttention", 'said "order needs attention"'))
        self.mended()
        self.follow("OrdersNeedAttention", "post orders/$ORDER/fulfilment/skip", STEP="cancel-shipment", WHY="the customer keeps it")
        self.await_status("cancelled")
        self.assertEqual(self.view()["payment"]["status"], "refunded")

    # ------------------------------------------------------------ requests

    @drill("RequestsFail", "ManyRequestsFail")
    def test_a_function_may_not_read_what_it_answers_with(self):
        self.place()
        self.await_status("confirmed")
        with self.denied("get-order", "dynamodb:*"):
            failed = [services("staff-1").call("GET", f"/api/v1/orders/{self.order}")[0] >= 500 for _ in range(20)]
            self.assert_rings("RequestsFail")
            self.assert_rings("ManyRequestsFail", requests=20, failed=sum(failed))
            self.assertIn("AccessDenied", self.follow("RequestsFail", 'said "request failed"'))
            self.follow("RequestsFail", "aws logs tail /aws/vendedlogs/api")
            self.follow("ManyRequestsFail", 'curl "$API_URL/health"')
        self.mended()
        self.assertEqual(self.status(self.order), "confirmed")

    # ------------------------------------------------------------ events on their way

    def assert_mapping_is_switched_on(self, alarm: str, deed: str, enable_of: str | None = None):
        uuid_of, state, *_ = self.follow(alarm, f"mapping {deed}").split("\t")
        self.assertIn(state, ("Disabled", "Disabling"))
        self.follow(enable_of or alarm, "aws lambda update-event-source-mapping", UUID=uuid_of)

    @drill("PublishingStopped")
    def test_nothing_gets_onto_the_bus_until_the_mapping_is_on(self):
        with self.stopped("publish-events"):
            self.place()
            self.until("the order is shown", lambda: self.status(self.order) == "created")
            self.assert_rings("PublishingStopped", appended=self.appended(), called=self.invocations("publish-events") or None)
            self.assert_mapping_is_switched_on("PublishingStopped", "publish-events")
            self.await_status("confirmed")
        self.assert_books_agree()

    @drill("ProjectionStopped")
    def test_no_view_is_written_until_the_mapping_is_on(self):
        with self.stopped("project-orders"):
            self.place()
            self.until("the order goes on", lambda: self.invocations("send-confirmation"))
            self.assertEqual(self.status(self.order), "answered with 404")
            self.assert_rings("ProjectionStopped", appended=self.appended(), called=self.invocations("project-orders") or None)
            self.assert_mapping_is_switched_on("ProjectionStopped", "project-orders", enable_of="PublishingStopped")
            self.await_status("confirmed")
        self.assert_books_agree()

    def assert_behind(self, alarm: str, deed: str, denied: str, message: str):
        """The age of what it has not done is what Lambda tells as `IteratorAge`, while it tries again."""
        with self.denied(deed, denied):
            self.place()
            placed = time.monotonic()
            age = lambda: (time.monotonic() - placed) * 1000  # noqa: E731
            self.until("it is behind", lambda: age() > float(self.alarms[alarm]["Threshold"]))
            self.assertGreater(self.invocations(deed, failed=True), 0)
            self.assert_rings(alarm, value=age())
            self.assertIn(self.order, self.follow(alarm, f'said "{message}"'))
        self.await_status("confirmed")
        self.assert_books_agree()

    @drill("PublishingLate")
    def test_the_bus_takes_nothing_until_the_right_is_back(self):
        self.assert_behind("PublishingLate", "publish-events", "events:PutEvents", "events not published")

    @drill("ViewsLag")
    def test_views_cannot_be_written_until_the_right_is_back(self):
        self.assert_behind("ViewsLag", "project-orders", "dynamodb:*", "commits not projected")

    def told(self, figure: str) -> int:
        """What `reconcile` tells in a run that begins now."""
        told = lambda: [line[figure] for line in self.lines() if figure in line]  # noqa: E731
        before = len(told())
        self.run_now("reconcile", patience_seconds=60)
        return self.until(f"{figure} is told", lambda: told()[before:])[-1]

    @drill("StreamsParked", "ParkedTooLong")
    def test_an_order_waits_for_both_consumers_behind_an_item_that_is_no_commit_until_that_is_put_right(self):
        self.place()
        self.await_status("confirmed")
        table, stream = setting("EVENTS_TABLE"), {"S": f"order#{self.order}"}
        events = client("dynamodb")
        (last,) = events.query(TableName=table, KeyConditionExpression="#stream = :stream", ScanIndexForward=False, Limit=1,
                               ExpressionAttributeNames={"#stream": "stream"}, ExpressionAttributeValues={":stream": stream})["Items"]
        version, money = int(last["version"]["N"]) + 1, lambda amount: {"amount": amount, "currency": "CNY"}
        found = {"charged": money(1999), "refunded": money(0), "reserved": [{"product_id": self.product, "quantity": 1}], "shipment": "created"}
        commit = last | {"version": {"N": str(version)}, "command_id": {"S": str(uuid.uuid4())}, "event_types": {"L": [{"S": "BooksCompared"}]},
                         "events": {"S": json.dumps([{"type": "BooksCompared", "schema": 1, "data": {"found": found, "late": []}}])}}
        events.put_item(TableName=table, Item={name: value for name, value in commit.items() if name != "actor"})
        consumers = ({}, {"project-orders": "publish-events"})
        look = lambda filled: self.follow("StreamsParked", 'get "dead-letters', **filled)  # noqa: E731
        for filled in consumers:
            self.until("it is parked", lambda: self.order in look(filled))
            self.assertIn("NotACommit", look(filled))
        self.assert_rings("StreamsParked", value=self.told("ParkedStreams"))
        seconds = self.until("it waits", lambda: self.told("ParkedSeconds"))
        self.assert_rings("ParkedTooLong", value=float(self.alarms["ParkedTooLong"]["Threshold"]) + seconds)  # in a day, if nobody came
        redrive = lambda filled: json.loads(  # noqa: E731
            self.follow("StreamsParked", "post dead-letters/redrive", ERROR="NotACommit", WHY="it is put right", **filled))
        self.assertEqual([redrive(filled)["redriven"] for filled in consumers], [0, 0])
        events.put_item(TableName=table, Item=commit)
        self.assertEqual([redrive(filled)["redriven"] for filled in consumers], [1, 1])
        self.until("it is shown", lambda: self.view()["version"] == version)
        self.assertFalse([filled for filled in consumers if self.order in look(filled)])
        self.assertEqual((self.told("ParkedStreams"), self.told("ParkedSeconds")), (0, 0))

    @drill("FulfilmentWaits")
    def test_nobody_takes_orders_from_the_queue_until_the_mapping_is_on(self):
        with self.stopped("start-fulfilment"):
            self.place()
            self.until("the order waits", lambda: self.letters(setting("FULFILMENT_QUEUE_URL")))
            self.assert_rings("FulfilmentWaits", value=float(self.alarms["FulfilmentWaits"]["Threshold"]) + 1)  # in two minutes, if nobody came
            self.follow("FulfilmentWaits", 'said "message not consumed"')
            self.assert_mapping_is_switched_on("FulfilmentWaits", "start-fulfilment")
            self.await_status("confirmed")
        self.assertEqual(self.letters(setting("FULFILMENT_QUEUE_URL")), 0)

    @drill("FulfilmentNotStarted")
    def test_the_state_machine_cannot_be_started_and_messages_are_given_up(self):
        sqs, queue = client("sqs"), setting("FULFILMENT_QUEUE_URL")
        before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout", "RedrivePolicy"])["Attributes"]
        self.addCleanup(sqs.set_queue_attributes, QueueUrl=queue, Attributes=before)
        impatient = json.dumps(json.loads(before["RedrivePolicy"]) | {"maxReceiveCount": 2})  # fifty tries take hours
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "1", "RedrivePolicy": impatient})
        (letters,) = [url for url in setting("DEAD_LETTER_QUEUE_URLS").split() if "FulfilmentDeadLetters" in url]
        with self.denied("start-fulfilment", "states:StartExecution"):
            self.place()
            self.until("the message is given up", lambda: self.letters(letters))
            self.assert_rings("FulfilmentNotStarted", value=self.letters(letters))
            self.until("it is listed", lambda: self.order in self.follow("FulfilmentNotStarted", 'get "dead-letters'))
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=before)
        redriven = json.loads(self.follow("FulfilmentNotStarted", "post dead-letters/redrive", WHY="it can be started"))
        self.assertGreaterEqual(redriven["redriven"], 1)
        self.await_status("confirmed")
        self.assertEqual((self.letters(letters), self.letters(queue)), (0, 0))
        self.assert_books_agree()

    # ------------------------------------------------------------ those who look after what others have left

    def assert_schedule_is_switched_on(self, alarm: str, deed: str):
        rule = client("cloudformation").describe_stack_resource(StackName="order-service-local", LogicalResourceId=f"{deed}Rule")
        name = rule["StackResourceDetail"]["PhysicalResourceId"]
        events = client("events")
        self.addCleanup(events.enable_rule, Name=name)
        events.disable_rule(Name=name)
        self.assert_rings(alarm, value=None)
        self.assertIn("DISABLED", self.follow(alarm, "aws events describe-rule"))
        self.follow(alarm, "aws events enable-rule")
        self.assertIn("ENABLED", self.follow(alarm, "aws events describe-rule"))

    @drill("NobodyLooks")
    def test_reconcile_is_not_called_until_its_schedule_is_on(self):
        self.assert_schedule_is_switched_on("NobodyLooks", "Reconcile")
        self.follow("NobodyLooks", "aws lambda invoke")
        self.assertGreaterEqual(self.invocations("reconcile"), 1)

    @drill("NobodyCompares")
    def test_compare_books_is_not_called_until_its_schedule_is_on(self):
        self.assert_schedule_is_switched_on("NobodyCompares", "CompareBooks")

    def lose(self):
        """An order whose execution somebody has aborted."""
        self.place(payment_method="pm_slow")
        told = lambda: services("staff-1").expect([200], "GET", f"/api/v1/orders/{self.order}/events")[1]["events"]  # noqa: E731
        self.until("it is at its charge, which the view may show too late", lambda: told()[-1]["type"] == "InventoryReserved")
        arn = f"{setting('FULFILMENT_EXPRESS_ARN')}:{self.order}".replace(":stateMachine:", ":execution:")
        client("stepfunctions").stop_execution(executionArn=arn)
        return self.order

    def run_now(self, deed: str, **event) -> dict:
        """As its schedule does, with less patience."""
        return client("lambda").invoke(FunctionName=f"order-service-local-{deed}", Qualifier="live", Payload=json.dumps(event).encode())

    @drill("ExecutionsMissing")
    def test_executions_were_aborted_and_orders_go_on_by_themselves(self):
        orders = [self.lose() for _ in range(3)]
        self.until("they are found", lambda: self.run_now("reconcile", patience_seconds=0) and all(
            any(line.get("message") == "missing execution started" and line["order_id"] == order for line in self.lines()) for order in orders))
        self.assert_rings("ExecutionsMissing")
        self.assertIn(orders[0], self.follow("ExecutionsMissing", 'said "missing execution started"'))
        self.assertNotIn(orders[0], self.follow("ExecutionsMissing", 'said "the state machine does not answer"'))
        self.follow("ExecutionsMissing", "aws logs tail /aws/vendedlogs/states")
        self.await_status("confirmed", *orders)
        self.assert_books_agree(*orders)

    @drill("NobodyReconciles")
    def test_reconcile_cannot_ask_for_executions_until_the_right_is_back(self):
        self.lose()
        with self.denied("reconcile", "states:*"):
            self.until("it fails", lambda: self.run_now("reconcile", patience_seconds=0).get("FunctionError"))
            self.assert_rings("NobodyReconciles", value=self.invocations("reconcile", failed=True))
            self.assertIn(self.order, self.follow("NobodyReconciles", 'said "order not reconciled"'))
        self.until("the next run has found it", lambda: self.run_now("reconcile", patience_seconds=0) and self.status(self.order) == "confirmed")
        self.assert_books_agree()

    @drill("BooksNotCompared")
    def test_a_provider_cannot_be_asked_for_its_books_until_the_right_is_back(self):
        self.place()
        self.await_status("confirmed")
        self.cancel()
        self.await_status("cancelled")
        look = {"patience_seconds": 0, "order_id": self.order}
        with self.denied("compare-books", "dynamodb:*", f"arn:aws:dynamodb:*:*:table/{setting('PAYMENTS_TABLE')}"):
            self.assertIn("FunctionError", self.run_now("compare-books", **look))
            self.assert_rings("BooksNotCompared", value=self.invocations("compare-books", failed=True))
            self.assertIn(self.order, self.follow("BooksNotCompared", 'said "books not compared"'))
        found = json.loads(self.run_now("compare-books", **look)["Payload"].read())
        self.assertEqual((found["agreed"], found["flagged"]), (1, 0))
        self.assertEqual(self.status(self.order), "cancelled")

    # ------------------------------------------------------------ deployments that are taken back

    def assert_is_named(self, *alarms: str):
        """The emulator gets none of these alarms, so here are others of their names, which CloudWatch would have noted down."""
        watch = client("cloudwatch")
        names = {alarm: f"order-service-local-{alarm}" for alarm in alarms}
        self.addCleanup(watch.delete_alarms, AlarmNames=list(names.values()))
        for alarm, name in names.items():
            watch.put_metric_alarm(AlarmName=name, Namespace="drill", MetricName=alarm, Statistic="Sum", Period=60, EvaluationPeriods=1,
                                   Threshold=0, ComparisonOperator="GreaterThanThreshold")
            watch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a drill")
            self.assertIn(name, self.follow(alarm, "aws cloudwatch describe-alarm-history"))
            self.follow(alarm, "aws cloudformation describe-stack-events")

    def assert_says(self, alarm: str, deed: str, version: str, message: str, *orders: str):
        """This version of the function, by the name of the log stream, and what it says of these orders."""
        said = self.follow(alarm, "aws logs tail $LOGS", **{"step not done": message}).splitlines()
        of_it = [line for line in said if f"[{version}]" in line.split(" ", 2)[1] and f"order-service-local-{deed}" in line]
        for order in orders:
            self.assertTrue([line for line in of_it if order in line], f"{deed} of version {version} does not say {message} of {order}")

    def assert_is_called(self, alarm: str, deed: str, version: str):
        self.assertIn(f'"FunctionVersion": "{version}"', self.follow(alarm, "aws lambda get-alias", **{"process-payment": deed}))

    @drill(STEP_FAILS, "ConfirmationsFall", "OrdersHandedOver")
    def test_a_new_version_of_a_step_charges_nobody_until_it_is_taken_back(self):
        before = self.called("process-payment")
        with self.deployed("process-payment", PAYMENTS_TABLE="nowhere") as version:
            orders = [self.place() for _ in range(3)]
            self.await_status("needs_attention", *orders)
            placed, confirmed = LIKE_THESE * self.figure("OrdersPlaced", 3), LIKE_THESE * self.figure("OrdersConfirmed")
            begun, handed_over = LIKE_THESE * self.executions("FULFILMENT_EXPRESS_ARN"), LIKE_THESE * self.executions("FULFILMENT_ARN")
            self.assert_rings(STEP_FAILS, value=self.errors_of("process-payment", version))
            self.assert_rings("ConfirmationsFall", placed=placed, confirmed=confirmed or None)
            self.assert_rings("OrdersHandedOver", begun=begun, handed_over=handed_over)
            self.assert_is_named(*DRILLED[self._testMethodName])
            self.assert_says(STEP_FAILS, "process-payment", version, "step not done", *orders)
            self.assertIn("process-payment", self.follow("OrdersLate", 'said "step not done"'))
        self.assert_is_called(STEP_FAILS, "process-payment", before)
        self.mended()
        for self.order in orders:
            self.follow("OrdersNeedAttention", "post orders/$ORDER/fulfilment/resume")
        later = [self.place() for _ in range(3)]
        self.await_status("confirmed", *orders, *later)
        placed, confirmed = LIKE_THESE * self.figure("OrdersPlaced", 3), LIKE_THESE * self.figure("OrdersConfirmed", 6)
        begun, handed_over = LIKE_THESE * self.executions("FULFILMENT_EXPRESS_ARN"), LIKE_THESE * self.executions("FULFILMENT_ARN")
        self.assertEqual((self.errors_of("process-payment", before), self.errors_of("process-payment", version)), (0, None))
        self.assert_quiet("ConfirmationsFall", placed=placed, confirmed=confirmed)
        self.assert_quiet("OrdersHandedOver", begun=begun, handed_over=handed_over or None)
        self.assert_books_agree(*orders, *later)

    @drill("MoneyGoesBack")
    def test_cards_are_declined_whichever_version_charges_them_and_the_deployment_was_not_it(self):
        orders = [self.place(payment_method="pm_card_declined") for _ in range(3)]
        self.await_status("rejected", *orders)
        of_all = lambda: {"placed": LIKE_THESE * self.figure("OrdersPlaced", 3),  # noqa: E731
                          "undone": LIKE_THESE * self.invocations("refund-payment") or None,
                          "requested": LIKE_THESE * self.invocations("issue-refund") or None}
        self.assert_rings("MoneyGoesBack", **of_all())
        self.assert_is_named("MoneyGoesBack")
        window = {"from=...": f"from={self.since:%FT%TZ}", "to=...": f"to={self.since + datetime.timedelta(hours=1):%FT%TZ}"}
        declined = lambda: {event["order_id"]: event["data"] for event in json.loads(  # noqa: E731
            self.follow("MoneyGoesBack", 'get "events?type=PaymentFailed', **window))["events"]}
        self.until("the list has them", lambda: set(orders) <= declined().keys())
        self.assertTrue(all(declined()[order]["reason"] for order in orders))
        self.assert_is_called("MoneyGoesBack", "process-payment", self.called("process-payment"))
        self.mended()
        later = [self.place() for _ in range(3)]
        self.await_status("confirmed", *later)
        self.assert_quiet("MoneyGoesBack", **of_all())
        self.assert_books_agree(*orders, *later)

    def assert_reader_is_taken_back(self, alarm: str, deed: str, message: str, **spoilt: str):
        before = self.called(deed)
        with self.deployed(deed, **spoilt) as version:
            self.place()
            self.until("it fails", lambda: self.errors_of(deed, version))
            self.assert_rings(alarm, value=self.errors_of(deed, version))
            self.assert_is_named(alarm)
            self.until("it is logged", lambda: self.order in self.follow(alarm, "aws logs tail $LOGS", **{"step not done": message}))
            self.assert_says(alarm, deed, version, message, self.order)
        self.assert_is_called(alarm, deed, before)
        self.await_status("confirmed")
        self.assertEqual(self.errors_of(deed, before), 0)
        self.assert_books_agree()

    @drill("PublishEventsVersionFails")
    def test_a_new_version_knows_another_bus_until_it_is_taken_back(self):
        self.assert_reader_is_taken_back("PublishEventsVersionFails", "publish-events", "events not published", EVENT_BUS="nowhere")

    @drill("ProjectOrdersVersionFails")
    def test_a_new_version_knows_other_views_until_it_is_taken_back(self):
        self.assert_reader_is_taken_back("ProjectOrdersVersionFails", "project-orders", "commits not projected",
                                         ORDERS_TABLE="nowhere", DEAD_LETTERS_TABLE="nowhere")

    @drill("CreateOrderVersionFails")
    def test_a_new_version_does_not_even_start_until_it_is_taken_back(self):
        before = self.called("create-order")
        with self.deployed("create-order", EVENTS_TABLE=None) as version:
            self.assertGreaterEqual(self.order_of_one()[0], 500)
            self.assert_rings("CreateOrderVersionFails", value=self.errors_of("create-order", version))
            self.assert_is_named("CreateOrderVersionFails")
            self.follow("RequestsFail", "aws logs tail /aws/vendedlogs/api")
        self.assert_is_called("CreateOrderVersionFails", "create-order", before)
        self.mended()
        self.place()
        self.await_status("confirmed")
        self.assertEqual(self.errors_of("create-order", before), 0)

    # ------------------------------------------------------------ what all of it stands on

    @drill("FunctionsThrottled")
    def test_nothing_is_reserved_for_a_function_until_the_reservation_is_gone(self):
        functions, name = client("lambda"), "order-service-local-get-product"
        self.addCleanup(functions.delete_function_concurrency, FunctionName=name)
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        path = f"/api/v1/products/{self.product}"
        refused = services("staff-1").call("GET", path)[0] >= 429
        self.assert_rings("FunctionsThrottled", value=int(refused))
        self.follow("FunctionsThrottled", "aws lambda get-account-settings")
        self.assertIn(": 0", self.follow("FunctionsThrottled", "aws lambda get-function-concurrency", NAME="get-product"))
        self.follow("FunctionsThrottled", "aws lambda delete-function-concurrency", NAME="get-product")
        services("staff-1").expect([200], "GET", path)

    def know_at_once(self, *deeds: str):
        """A function that starts anew asks for its settings; one that runs does every half minute."""
        for deed in deeds:
            aws.start_anew(client("lambda"), f"order-service-local-{deed}")

    def take_settings_back(self):
        self.shell("make -s config RESET=1")
        self.know_at_once("create-order", "send-confirmation")

    @drill("ProviderLeftAlone")
    def test_nobody_is_where_messages_are_sent_until_new_orders_go_elsewhere(self):
        self.addCleanup(self.take_settings_back)
        self.shell("make -s config SET='services.nowhere=[\"http://127.0.0.1:9\"]; providers.notifications.kind=rest; providers.notifications.service=nowhere'")
        self.know_at_once("create-order", "send-confirmation")
        placed = []
        opened = lambda: any(line.get("message") == "circuit breaker changed" for line in self.lines())  # noqa: E731
        self.until("it is left alone", lambda: placed.append(self.place()) or self.await_status("confirmed") or opened())
        self.assert_rings("ProviderLeftAlone")
        self.assertIn("the notification service", self.follow("ProviderLeftAlone", 'said "circuit breaker changed"'))
        self.assertIn(placed[-1], self.follow("ProviderLeftAlone", 'said "notification not sent"'))
        self.follow("ProviderLeftAlone", "make config STAGE=prod SET='providers.notifications", prod="local")
        self.know_at_once("create-order")
        self.mended()
        self.place()
        self.await_status("confirmed")
        self.assertNotIn(self.order, self.follow("ProviderLeftAlone", 'said "notification not sent"'))
        self.assert_books_agree(*placed, self.order)

    @drill("SettingsRefused")
    def test_settings_that_functions_refuse_are_deployed_past_the_check(self):
        self.addCleanup(self.take_settings_back)
        self.shell("make -s config SET='poll_seconds=30'")
        configuration = client("appconfig")
        application, environment, profile = setting("CONFIGURATION").split("/")
        version = configuration.create_hosted_configuration_version(
            ApplicationId=application, ConfigurationProfileId=profile, ContentType="application/json", Content=b'{"poll_seconds": 1}')
        configuration.start_deployment(ApplicationId=application, EnvironmentId=environment, ConfigurationProfileId=profile,
                                       DeploymentStrategyId=setting("CONFIGURATION_STRATEGY"), ConfigurationVersion=str(version["VersionNumber"]))
        self.until("a function that starts anew has none", lambda: self.know_at_once("create-order") or self.order_of_one()[0] == 503)
        self.assert_rings("SettingsRefused")
        self.assert_rings("RequestsFail")
        self.assertIn("poll_seconds", self.follow("SettingsRefused", 'said "settings not taken"'))
        self.follow("SettingsRefused", "make config", prod="local", **{"...": "poll_seconds=30"})
        self.know_at_once("create-order")
        self.mended()
        self.place()
        self.await_status("confirmed")


if __name__ == "__main__":
    unittest.main(failfast=False)

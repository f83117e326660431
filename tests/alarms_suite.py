"""Rings every alarm, and holds to what there is whatever alarms, the dashboard and docs/runbook.md name.

The emulator counts no log lines and knows no expressions, so CloudWatch is played here, as its guide has it: filter patterns
over lines that have the wording and the fields of the Rust source, expressions over series, and the evaluation of an alarm with
data missing. Each alarm has a series that must make it call, and one that must not.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/alarms_suite.py
"""
from __future__ import annotations

import ast
import fnmatch
import functools
import json
import operator
import re
import unittest

import template_suite
import yaml
from template_suite import EVERYTHING, ROOT, Stack, functions, in_every_stage, named_in, source, stack

TOPIC = "arn:aws:sns:us-east-1:123456789012:operators"
PRICES = json.loads((ROOT / "infra/cost/prices.json").read_text())
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
TAKEN_BACK = "docs/runbook.md#a-deployment-that-was-taken-back"

# What AWS's services publish of themselves, by namespace and dimensions, from the page "metrics and dimensions" of each one's
# guide, and the statistics with which an alarm on it means something.
COUNTED, OLDEST, UNITS = {"Sum"}, {"Maximum"}, {"Sum"}
GAUGES = {"ParkedStreams", "ParkedSeconds"}  # of the service's own: how it stands, and not what has been
PUBLISHED = {
    ("AWS/Lambda", ("FunctionName",)): {"Invocations": COUNTED, "Errors": COUNTED, "Throttles": COUNTED, "IteratorAge": OLDEST},
    ("AWS/Lambda", ("FunctionName", "Resource", "ExecutedVersion")): {"Errors": {"Average"}},  # of an alias that leads to two
    ("AWS/Lambda", ()): {"Throttles": COUNTED},
    ("AWS/States", ("StateMachineArn",)): {
        "ExecutionsStarted": COUNTED, "ExecutionsFailed": COUNTED, "ExecutionsTimedOut": COUNTED, "ExecutionTime": {"PR(:60000)"}},
    ("AWS/SQS", ("QueueName",)): {"ApproximateNumberOfMessagesVisible": OLDEST, "ApproximateAgeOfOldestMessage": OLDEST},
    ("AWS/ApiGateway", ("ApiId",)): {"Count": COUNTED, "4xx": COUNTED, "5xx": COUNTED, "Latency": set(), "IntegrationLatency": set()},
    ("AWS/DynamoDB", ("TableName",)): {
        "ConsumedReadCapacityUnits": UNITS, "ConsumedWriteCapacityUnits": UNITS, "ReadThrottleEvents": COUNTED, "WriteThrottleEvents": COUNTED},
    ("AWS/DynamoDB", ("TableName", "GlobalSecondaryIndexName")): {"ConsumedWriteCapacityUnits": UNITS, "WriteThrottleEvents": COUNTED},
    ("AWS/DynamoDB", ("TableName", "Operation")): {"SuccessfulRequestLatency": {"SampleCount"}, "SystemErrors": COUNTED},
}
RESOURCES = {"FunctionName": "AWS::Lambda::Function", "StateMachineArn": "AWS::StepFunctions::StateMachine", "QueueName": "AWS::SQS::Queue",
             "TableName": "AWS::DynamoDB::Table"}


def prod() -> Stack:
    return stack("prod", **EVERYTHING, AlarmTopicArn=TOPIC)


def every_alarm(main: Stack) -> dict[str, dict]:
    return {name: alarm for part in template_suite.all_stacks(main) for name, alarm in part.of_type("AWS::CloudWatch::Alarm").items()}


def watch_deployments(main: Stack) -> dict[str, dict]:
    """Those that take a deployment back, and call nobody."""
    return {name: alarm for name, alarm in every_alarm(main).items() if alarm["AlarmDescription"].endswith(f"({TAKEN_BACK})")}


def alarms(main: Stack) -> dict[str, dict]:
    """Those that call somebody."""
    return {name: alarm for name, alarm in every_alarm(main).items() if name not in watch_deployments(main)}


def filters(main: Stack) -> list[dict]:
    """Each filter with the one metric that it makes."""
    found = [one for part in template_suite.all_stacks(main) for one in part.of_type("AWS::Logs::MetricFilter").values()]
    return [one | one["MetricTransformations"][0] for one in found]


def watched(alarm: dict) -> list[dict]:
    """The metrics of an alarm, each with its statistic and period, by `Id` if it is on an expression."""
    if "Metrics" not in alarm:
        return [alarm | {"Id": "value", "Stat": alarm.get("Statistic") or alarm["ExtendedStatistic"]}]
    return [one["MetricStat"]["Metric"] | one["MetricStat"] | one for one in alarm["Metrics"] if "MetricStat" in one]


def read(path: str) -> str:
    return (ROOT / path).read_text()


# ---------------------------------------------------------------- lines, and the patterns that count them


@functools.cache
def rust() -> str:
    files = sorted(file for folder in ("shared", "functions") for file in (ROOT / folder).glob("*/src/**/*.rs"))
    return "\n".join(file.read_text().split("#[cfg(test)]\nmod tests")[0] for file in files)


def written(message: str) -> tuple[str, set[str]]:
    """The level at which the functions write this message, and the fields that its line has."""
    call = re.search(r'\b(error|warn|info|debug)!\(((?:[^"();]|\((?:[^()]|\([^()]*\))*\))*)"%s"\s*,?\s*\)' % re.escape(message), rust())
    assert call, f"nothing writes {message!r}"
    fields = {re.sub(r"^[%?]|\s*=.*$", "", field.strip(), flags=re.S) for field in call[2].split(",") if field.strip()}
    return call[1].upper(), fields


@functools.cache
def told() -> dict[str, tuple[str, ...]]:
    """What functions tell by themselves in the embedded metric format, each figure with the names of its dimensions."""
    calls = re.findall(r'Metric::(?:bytes|count|plain|time)\("(\w+)"((?:[^;"]|"[^"]*")*?)(?=Metric::|;|,?\n\s*\])', rust())
    return {name: tuple(re.findall(r'\.of\("(\w+)"', rest)) for name, rest in calls}


def line(message: str, **values: str) -> dict:
    level, fields = written(message)
    assert set(values) <= fields, f"the line {message!r} has no {set(values) - fields}"
    return {"level": level, "message": message} | {field: "x" for field in fields} | values


def report(**record: str) -> dict:
    """What Lambda itself writes of an invocation."""
    sample = json.loads(PRICES["assumptions"]["platform_lines"][1])
    return sample | {"record": sample["record"] | record}


def access(**fields: str) -> dict:
    return json.loads(PRICES["assumptions"]["access_line"]) | fields


TERM = re.compile(r'\$\.([\w.]+) (!?=) "([^"]*)"')


def matches(pattern: str, line: dict) -> bool:
    def term(match: re.Match) -> str:
        value: object = line
        for key in match[1].split("."):
            value = value.get(key) if isinstance(value, dict) else None
        found = isinstance(value, str) and fnmatch.fnmatchcase(value, match[3])
        return str(found if match[2] == "=" else isinstance(value, str) and not found)

    inner = re.fullmatch(r"\{ (.*) }", pattern)[1]
    text = TERM.sub(term, inner).replace("&&", "and").replace("||", "or")
    return logic(ast.parse(text, mode="eval").body)


def logic(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return node.value
    assert isinstance(node, ast.BoolOp), "a pattern that this test does not know"
    return (all if isinstance(node.op, ast.And) else any)(map(logic, node.values))


# ---------------------------------------------------------------- series, and the expressions over them

Series = list  # of a number or None for each period

ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
COMPARISONS = {ast.GtE: operator.ge, ast.Gt: operator.gt, ast.LtE: operator.le, ast.Lt: operator.lt}


class Expression:
    """`strict` has `+` and its like say nothing of a metric that has never said anything; the guide leaves that open."""

    def __init__(self, metrics: dict[str, Series], strict: bool):
        self.metrics, self.strict, self.length = metrics, strict, max(map(len, metrics.values()))

    def value(self, text: str) -> Series:
        return self.walk(ast.parse(text, mode="eval").body)

    def walk(self, node: ast.expr):
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.metrics[node.id]
        if isinstance(node, ast.List):
            return [self.walk(one) for one in node.elts]
        if isinstance(node, ast.UnaryOp):
            return self.combine(operator.sub, 0, self.walk(node.operand))
        if isinstance(node, ast.BinOp):
            return self.combine(ARITHMETIC[type(node.op)], self.walk(node.left), self.walk(node.right))
        if isinstance(node, ast.Compare):
            how = COMPARISONS[type(node.ops[0])]
            return self.combine(lambda one, other: int(how(one, other)), self.walk(node.left), self.walk(node.comparators[0]))
        return getattr(self, node.func.id.lower())(*map(self.walk, node.args))

    def combine(self, how, one, other):
        if not isinstance(one, list) and not isinstance(other, list):
            return how(one, other)
        if self.strict and any(isinstance(side, list) and set(side) == {None} for side in (one, other)):
            return [None] * self.length
        return [self.at(how, *pair) for pair in zip(self.spread(one, other), self.spread(other, one))]

    def spread(self, side, beside) -> Series:
        """What is missing on one side only counts as 0, a number for every moment that the other side has."""
        if not isinstance(side, list):
            return [None if value is None else side for value in beside]
        return [0 if value is None and isinstance(beside, list) and beside[n] is not None else value for n, value in enumerate(side)]

    @staticmethod
    def at(how, one, other):
        if one is None or other is None or how is operator.truediv and other == 0:
            return None
        return how(one, other)

    def over(self, how, series: list[Series]) -> Series:
        moments = [[value for value in moment if value is not None] for moment in zip(*series)]
        return [how(moment) if moment else None for moment in moments]

    def sum(self, series):
        return self.over(sum, series)

    def max(self, series):
        return self.over(max, series)

    def if_(self, condition, yes, no):
        return [None if holds is None else (yes[n] if isinstance(yes, list) else yes) if holds else (no[n] if isinstance(no, list) else no)
                for n, holds in enumerate(condition)]


setattr(Expression, "if", Expression.if_)

# ---------------------------------------------------------------- alarms

BREACHES = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


def state(alarm: dict, values: Series) -> str:
    """After the last of these values. CloudWatch looks at some more periods than it is asked to, and fills in as few as it must."""
    needed = alarm["EvaluationPeriods"]
    there = [value for value in values[-needed - 2:] if value is not None][-needed:]
    if not there and alarm["TreatMissingData"] == "missing":
        return "INSUFFICIENT_DATA"
    breaching = sum(BREACHES[alarm["ComparisonOperator"]](value, float(alarm["Threshold"])) for value in there)
    if alarm["TreatMissingData"] == "breaching":
        breaching += needed - len(there)
    return "ALARM" if breaching >= alarm.get("DatapointsToAlarm", needed) else "OK"


def calls(alarm: dict, values: Series) -> bool:
    """Whether anybody is called on the way from a new alarm through these values: for a change of its state, and only then."""
    actions = {"ALARM": alarm.get("AlarmActions"), "INSUFFICIENT_DATA": alarm.get("InsufficientDataActions")}
    states = ["INSUFFICIENT_DATA", *(state(alarm, values[:n + 1]) for n in range(len(values)))]
    return any(actions.get(now) and now != before for before, now in zip(states, states[1:]))


def values_of(alarm: dict, case: dict | list, strict: bool, main: Stack) -> Series:
    """A case is the series of each metric, or the lines of each period where filters make the metric."""
    if isinstance(case, list):
        case = {"value": [counted(alarm, lines, main) for lines in case]}
    for expression in (one["Expression"] for one in alarm.get("Metrics", []) if "Expression" in one):
        length = max(map(len, case.values()))
        return Expression({one["Id"]: case.get(one["Id"], [None] * length) for one in watched(alarm)}, strict).value(expression)
    return case["value"]


def counted(alarm: dict, lines: list[dict], main: Stack) -> int | None:
    """Without any line a filter says nothing."""
    metric = (alarm["Namespace"], alarm["MetricName"])
    patterns = [one["FilterPattern"] for one in filters(main) if (one["MetricNamespace"], one["MetricName"]) == metric]
    return sum(any(matches(pattern, line) for pattern in patterns) for line in lines) if lines else None


def cases() -> dict[str, tuple]:
    """For each alarm, what must make it call, each by itself if there is more than one thing, and what must not."""
    fine = line("step done")
    stuck = line("order needs attention", step="refund-payment", reason="RequestRefused")
    differ = line("order needs attention", step="compare-books", reason="BooksDiffer")
    failed = line("request failed", problem="unavailable")
    breakers = ("circuit breaker changed", "circuit breaker of the discovery changed")
    opened = [line(message, **{"from": "Closed", "to": "Open"}) for message in breakers]
    closed = [one | {"to": "Closed"} for one in opened]
    hour = [0] * 12
    return {
        "MoneyDoesNotAgree": ([[fine], [differ]], [[fine], [stuck], []]),
        "OrdersNeedAttention": ([[fine], [stuck]], [[fine], [], [line("step not done")]]),
        "OrdersStuck": ({"value": [None, 1]}, {"value": [0, 0, None]}),
        "OrdersTimedOut": ({"value": [None, 1]}, {"value": [0, 0, None]}),
        # Nobody is told; or the function that would do it has never even been called.
        "OrdersNotConfirmed": (({"begun": [40, 40, 40], "told": [40, 30, 30], "untold": [0, 30, 30]}, {"begun": [40, 40]}),
                               {"begun": [40, 19, 40, 40], "told": [38, 0, 5, 39], "untold": [0, 0, 0, 0]}),
        "OrdersLate": (({"begun": [100, 100], "in_time": [100, 99], "handed_over": [6, 8]}, {"begun": [100, 100], "in_time": [94, 60]}),
                       {"begun": [100, 100, 10, None], "in_time": [100, 96, 50, None], "handed_over": [None, None, None, 7]}),
        "RequestsFail": ([[fine], [failed]], [[fine], [access()], [line("request answered", status="404")]]),
        "ManyRequestsFail": ({"requests": [200, 200], "failed": [11, 200]}, {"requests": [200, 10, 200], "failed": [None, 10, 9]}),
        # One order now and then, none of whose commits are taken; and one whose commits were taken in the next period.
        "PublishingStopped": ({"appended": [4, None, None, 1, 1], "called": [None] * 5},
                              {"appended": [5, 1, *hour, 5, 1], "called": [5, None, *hour, 5, None]}),
        "ProjectionStopped": ({"appended": [9, 9, 9, 9], "called": [9, None, None, None]},
                              {"appended": [9, 25_000, None, 9], "called": [9, 1_000, None, 2]}),
        "PublishingLate": ({"value": [0, 21_000, 50_000, 90_000]}, {"value": [0, 21_000, 4, 21_000, None]}),
        "FulfilmentWaits": ({"value": [0, 130, 190, 250]}, {"value": [0, 130, 0, 119, None]}),
        "FulfilmentNotStarted": ({"value": [0, 1]}, {"value": [0, 0, None]}),
        "EventsNotPublished": ({"value": [0, 1]}, {"value": [0, 0, None]}),
        "ViewsLag": ({"value": [0, 11_000, 12_000, 30_000]}, {"value": [90, 11_000, 40, None]}),
        "EventsNotProjected": ({"value": [None, 3]}, {"value": [None, 0]}),
        "StreamsParked": (({"value": [0, 0, 1]}, {"value": [0, 0, None, None, None]}), {"value": [None, 0, None, None, 0]}),
        # A run that fails to count says nothing, and one that comes twice does not make a day of two halves.
        "ParkedTooLong": ({"value": [0, 86_401]}, {"value": [0, 86_400, None, 43_300]}),
        # In another queue each day, as far as anybody can tell, but without a day on which there were none.
        "DeadLettersExpire": (({"projection": [0, *[1] * 7]}, {"fulfilment": [2, 2, 2, None, None, None, None], "publishing": [0, 0, 1, 1, 1, 1, 1]}),
                              {"projection": [*[1] * 6, 0, *[1] * 6], "fulfilment": [None] * 13, "publishing": [None, *[9] * 4, *[0] * 8]}),
        "NobodyLooks": ({"value": [1, 1, None, None, None, None, None]}, {"value": [None, 1, 1, None, 2, 1]}),
        "NobodyReconciles": ({"value": [0, 1, 1, 1]}, {"value": [0, 1, 1, 0, None]}),
        "ExecutionsMissing": ([[fine], [line("missing execution started")] * 3], [[fine], [line("missing execution started")] * 2]),
        "NobodyCompares": ({"value": [1, 1, None, None, None, None, None]}, {"value": [None, 1, None, 1, 1]}),
        "BooksNotCompared": ({"value": [1, 1, 1, 1]}, {"value": [1, 1, 1, 0]}),
        "ProviderLeftAlone": ([[fine], [opened[0]], [opened[1]]], [[fine], closed, []]),
        "FunctionsDie": ([[fine], [report(status="timeout"), report(errorType="Runtime.ExitError"), report(errorType="Sandbox.Timedout")]],
                         [[report()], [report(status="error", errorType="PaymentDeclined")] * 9, [report(status="timeout")] * 2]),
        "FunctionsThrottled": ({"value": [0, 1, 0, 5, 1]}, {"value": [0, 9, 0, 0, 0, 9]}),
        "TablesThrottled": ({"open_w": [60, 90, 90, 90], "index_r": [20, 20, 20, 20]}, {"events_w": [100, 500, None, None, 100, 500]}),
        "TablesFail": ({"append": [4, 6, 9], "load": [1, 6, 4]}, {"append": [10, 11, None, 3]}),
        # 1.4 million write units in five minutes are $10.50 an hour.
        "CostsTooMuch": ({"orders_w": [1_400_000] * 3}, {"events_r": [6_600_000] * 3, "open_w": [None, 1, 1]}),
        "SettingsRefused": ([[fine], [line("settings not taken")]], [[fine], [line("settings changed")]]),
    }


class Deployments(unittest.TestCase):
    """CodeDeploy looks at the state of an alarm, so none of these has to call anybody."""

    CASES = {
        "ConfirmationsFall": (({"placed": [40, 40], "confirmed": [39, 19]}, {"placed": [40]}), {"placed": [19, 40], "confirmed": [0, 20]}),
        "MoneyGoesBack": (({"placed": [40], "undone": [13]}, {"placed": [100], "undone": [16], "requested": [15]}),
                          {"placed": [19, 100, None], "undone": [19, 20, 5], "requested": [None, 10, None]}),
        "OrdersHandedOver": ({"begun": [100], "handed_over": [21]}, {"begun": [19, 100, None], "handed_over": [19, 20, 3]}),
    }
    # One call that fails is no more than that; refusals that are right stay below half.
    VERSION = ({"value": [0.1, 1.0, 0.6]}, {"value": [1.0, 0.5, None, 0.4, 0.9, 0.5]})

    def test_what_a_new_version_spoils_takes_it_back_and_a_normal_day_does_not(self):
        main = prod()
        found = watch_deployments(main)
        own = {name for name in found if name.endswith("VersionFails")}
        self.assertEqual(set(found) - own, set(self.CASES))
        for name, (loud, quiet) in (self.CASES | dict.fromkeys(own, self.VERSION)).items():
            for strict in (True, False):
                with self.subTest(name, strict=strict):
                    for case in loud if isinstance(loud, tuple) else (loud,):
                        self.assertEqual(state(found[name], values_of(found[name], case, strict, main)), "ALARM")
                    values = values_of(found[name], quiet, strict, main)
                    self.assertEqual({state(found[name], values[:n + 1]) for n in range(len(values))}, {"OK"})

    def test_nothing_is_taken_back_because_nobody_calls(self):
        for name, alarm in watch_deployments(prod()).items():
            self.assertEqual(state(alarm, [None] * 20), "OK", name)
            self.assertNotIn("AlarmActions", alarm, name)

    def test_those_of_a_version_are_there_for_a_canary_and_the_others_before_there_is_one(self):
        self.assertEqual(set(watch_deployments(stack("dev"))), set(self.CASES))
        self.assertEqual(watch_deployments(stack("local")), {})
        self.assertIn("\n## A deployment that was taken back\n", RUNBOOK)


class Ringing(unittest.TestCase):
    def test_every_alarm_calls_for_what_it_is_there_for_and_for_nothing_else(self):
        main, known = prod(), cases()
        found = alarms(main)
        self.assertEqual(set(known), set(found))
        for name, (loud, quiet) in known.items():
            for strict in (True, False):
                with self.subTest(name, strict=strict):
                    for case in loud if isinstance(loud, tuple) else (loud,):
                        self.assertTrue(calls(found[name], values_of(found[name], case, strict, main)), "nobody is called")
                    self.assertFalse(calls(found[name], values_of(found[name], quiet, strict, main)), "somebody is called for nothing")

    def test_none_calls_because_the_stack_is_new_or_nothing_goes_on(self):
        for name, alarm in alarms(prod()).items():
            self.assertFalse(calls(alarm, [None] * 20), name)

    def test_what_stands_for_a_loud_case_is_what_the_source_says(self):
        self.assertIn('Self::CompareBooks => "compare-books"', read("shared/domain/src/order.rs"))
        self.assertRegex(read("shared/providers/src/breaker.rs"), r"#\[derive\([^)]*\bDebug\b[^)]*\)\]\s*pub enum State \{[^}]*\bOpen,")

    def test_no_log_level_silences_an_alarm(self):
        """`LOG_LEVEL=ERROR` leaves out all but errors. What Lambda and API Gateway write has no level of the service's."""
        main = prod()
        rung = {(one["Namespace"], one["MetricName"]) for alarm in alarms(main).values() for one in watched(alarm)}
        for one in filters(main):
            if (one["MetricNamespace"], one["MetricName"]) in rung:
                for field, how, text in TERM.findall(one["FilterPattern"]):
                    if field == "message":
                        self.assertEqual(written(text)[0], "ERROR", text)
        for function in functions(main).values():
            self.assertEqual(function["LoggingConfig"]["SystemLogLevel"], "WARN", "what is killed writes no line")

    def test_every_alarm_calls_whoever_is_to_be_called(self):
        for name, alarm in alarms(prod()).items():
            self.assertEqual(alarm["AlarmActions"], [TOPIC], name)
            # Silence calls where data are the rule; a breach would ring before the first run.
            self.assertIn(alarm["TreatMissingData"], ["missing", "notBreaching"], name)
            self.assertEqual(alarm.get("InsufficientDataActions"), [TOPIC] if alarm["TreatMissingData"] == "missing" else None, name)

    def test_the_bound_of_what_an_hour_costs_is_above_what_all_orders_cost_that_the_api_lets_in(self):
        main = prod()
        alarm = alarms(main)["CostsTooMuch"]
        unit = {kind: PRICES["per_order"][f"dynamodb_{kind}_units"]["usd"] for kind in ("write", "read")}
        expression = alarm["Metrics"][0]["Expression"]
        self.assertEqual(re.findall(r"([\d.]+) \* SUM", expression), [str(unit["write"]), str(unit["read"])])
        self.assertEqual(re.search(r"/ (\d+) \* (\d+)$", expression).groups(), ("1000000", str(3600 // watched(alarm)[0]["Period"])))
        happy = json.loads(read("infra/cost/budget.json"))["happy"]
        (stage,) = main.child("AWS::ApiGatewayV2::Stage").of_type("AWS::ApiGatewayV2::Stage").values()
        orders = stage["RouteSettings"]["POST /api/v1/orders"]["ThrottlingRateLimit"] * 3600
        an_order = sum(happy[f"dynamodb_{kind}_units"] * price for kind, price in unit.items()) / 1_000_000
        self.assertTrue(orders * an_order < float(alarm["Threshold"]) < 2 * orders * an_order)

    def test_a_batch_holds_far_fewer_commits_than_a_call_is_taken_for(self):
        main = prod()
        for name, mapping in (("PublishingStopped", "PublishEventsMapping"), ("ProjectionStopped", "ProjectOrdersMapping")):
            factor = int(re.search(r"-(\d+) \*", alarms(main)[name]["Metrics"][0]["Expression"])[1])
            self.assertGreaterEqual(factor, 20 * main.resources[mapping]["Properties"]["BatchSize"])

    def test_no_alarm_asks_for_the_age_of_dead_letters_because_looking_at_them_silences_it(self):
        """SQS leaves out of a queue's age whatever was received three times and not deleted."""
        main = prod()
        taken_from = {named_in(mapping["EventSourceArn"]) for mapping in main.of_type("AWS::Lambda::EventSourceMapping").values()}
        aged = {named_in(one["Dimensions"][0]["Value"]) for alarm in every_alarm(main).values() for one in watched(alarm)
                if one["MetricName"] == "ApproximateAgeOfOldestMessage"}
        self.assertTrue(aged)
        self.assertFalse(aged - taken_from)

    def test_an_express_execution_that_fails_rings_nobody_because_reconcile_looks_after_it(self):
        """A person is called where the order is flagged, and where reconcile has to start executions again and again."""
        failing = {named_in(one["Dimensions"][0]["Value"]) for alarm in alarms(prod()).values() for one in watched(alarm)
                   if one["MetricName"] in ("ExecutionsFailed", "ExecutionsTimedOut")}
        self.assertEqual(failing, {"Fulfilment"})


# ---------------------------------------------------------------- names


class Names(unittest.TestCase):
    def assert_published(self, main: Stack, namespace: str, metric: str, dimensions: list[tuple[str, str]]):
        made = {(one["MetricNamespace"], one["MetricName"]) for one in filters(main)}
        if (namespace, metric) in made:
            self.assertEqual(dimensions, [])
            return
        if namespace == main.name:
            self.assertEqual(tuple(name for name, _ in dimensions), told()[metric])
            if dimensions == [("Reason", value := dict(dimensions).get("Reason"))]:
                self.assertIn(f'"{value}"', re.search(r"const CODES: .*?\];", read("shared/domain/src/order.rs"), re.S)[0])
            return
        self.assertIn(metric, PUBLISHED[namespace, tuple(name for name, _ in dimensions)])
        table = None
        for name, value in dimensions:
            if name == "ExecutedVersion":
                self.assertEqual(main.resources[named_in(value)]["Type"], "AWS::Lambda::Version")
            elif name == "Resource":
                self.assertEqual(value, f"{dict(dimensions)['FunctionName']}:live")
            elif name == "FunctionName" and value.startswith("<"):
                self.assertIn(named_in(value), functions(main))
            elif name == "FunctionName":
                self.assertIn(value, [function["FunctionName"] for function in functions(main).values()])
            elif name == "ApiId":
                self.assertEqual(value, "<^Api.Outputs.ApiId>")
                self.assertIn("ApiId", main.child("AWS::ApiGatewayV2::Api").outputs)
            elif name == "GlobalSecondaryIndexName":
                self.assertIn(value, [index["IndexName"] for index in main.properties(table)["GlobalSecondaryIndexes"]])
            elif name == "Operation":
                asked = {action for function in functions(main) for action, resource in template_suite.grants_of(main, function)
                         if resource == f"<{named_in(table)}.Arn>"}
                self.assertIn(f"dynamodb:{value}", asked, "nobody asks the table for this")
            else:
                table = value
                self.assertEqual(main.resources[named_in(value)]["Type"], RESOURCES[name])

    @in_every_stage
    def test_every_alarm_watches_what_is_published_and_with_a_statistic_that_tells_it(self, main):
        for name, alarm in every_alarm(main).items():
            for one in watched(alarm):
                with self.subTest(name, metric=one["MetricName"]):
                    dimensions = [(dimension["Name"], dimension["Value"]) for dimension in one.get("Dimensions", [])]
                    self.assert_published(main, one["Namespace"], one["MetricName"], dimensions)
                    tells = PUBLISHED.get((one["Namespace"], tuple(name for name, _ in dimensions)), {}).get(one["MetricName"], OLDEST if one["MetricName"] in GAUGES else COUNTED)
                    self.assertIn(one["Stat"], tells)

    @in_every_stage
    def test_numbers_are_such_as_cloudwatch_takes(self, main):
        for name, alarm in every_alarm(main).items():
            with self.subTest(name):
                metrics, number = watched(alarm), alarm["EvaluationPeriods"]
                (period,) = {one["Period"] for one in metrics}
                self.assertEqual(period % 60, 0)
                self.assertLessEqual(period * number, 86_400 if period < 3600 else 604_800)
                self.assertTrue(1 <= alarm.get("DatapointsToAlarm", number) <= number)
                self.assertLessEqual(len(metrics), 10, "more than an expression of an alarm may have")
                self.assertLessEqual(len(alarm["AlarmDescription"]), 1024)
                if "Metrics" in alarm:
                    self.assertEqual([one["Id"] for one in alarm["Metrics"] if one.get("ReturnData", True)], ["found"])
                    self.assertTrue(all(re.fullmatch(r"[a-z]\w*", one["Id"]) for one in alarm["Metrics"]))

    def test_the_emulator_gets_no_alarm_on_an_expression(self):
        self.assertEqual([name for name, alarm in alarms(stack("local")).items() if "Metrics" in alarm], [])
        self.assertEqual(set(alarms(stack("dev"))), set(alarms(prod())))

    @in_every_stage
    def test_every_filter_counts_lines_that_are_written(self, main):
        for one in filters(main):
            terms = TERM.findall(one["FilterPattern"])
            self.assertTrue(terms and one["FilterPattern"].startswith("{ "), one["FilterPattern"])
            messages = [text for field, _, text in terms if field == "message"]
            group = named_in(one["LogGroupName"])
            if messages:
                self.assertEqual(group, "FunctionLogs")
                for message in messages:
                    value = one["MetricValue"].removeprefix("$.")
                    wanted = {field for field, *_ in terms if field != "message"} | ({value} if value != one["MetricValue"] else set())
                    self.assertLessEqual(wanted, written(message)[1], message)
            else:  # what API Gateway or Lambda writes
                sample = {"FunctionLogs": report(), "Api": access()}[group]
                for field, *_ in terms:
                    self.assertIn(field.split(".")[0], sample)

    @in_every_stage
    def test_an_http_function_that_fails_rings_as_well_as_one_that_answers_so(self, main):
        made = {one["FilterPattern"]: one["MetricName"] for one in filters(main)}
        self.assertEqual(made['{ $.message = "request failed" }'], made['{ $.function_error != "-" }'])
        self.assertEqual(alarms(main)["RequestsFail"]["MetricName"], made['{ $.function_error != "-" }'])
        self.assertTrue(matches('{ $.function_error != "-" }', access(function_error="The function is throttled")))


# ---------------------------------------------------------------- the dashboard


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.main = prod()
        self.part = self.main.child("AWS::CloudWatch::Dashboard")
        (properties,) = self.part.of_type("AWS::CloudWatch::Dashboard").values()
        self.name, self.widgets = properties["DashboardName"], json.loads(properties["DashboardBody"])["widgets"]

    def queries(self):
        """Each widget on metrics, with what it draws."""
        return [(one["properties"], one["properties"]["metrics"]) for one in self.widgets if one["type"] == "metric"]

    def test_every_metric_is_published(self):
        for properties, metrics in self.queries():
            for *path, options in metrics:
                with self.subTest(properties["title"], path=path):
                    if path:
                        namespace, metric, *dimensions = path
                        Names.assert_published(self, self.main, namespace, metric, list(zip(dimensions[::2], dimensions[1::2])))
                    self.assertRegex(options.get("stat", properties["stat"]), r"^(Sum|Maximum|p\d+|PR\(:\d+\))$")

    def test_every_expression_can_be_computed(self):
        for properties, metrics in self.queries():
            series = {options["id"]: [1.0, None, 2.0] for *path, options in metrics if path and "id" in options}
            for *path, options in metrics:
                if not path:
                    values = Expression(series, strict=True).value(options["expression"])
                    self.assertTrue(any(value is not None for value in values), properties["title"])

    def test_the_objectives_are_on_it_as_pages_state_them(self):
        text = json.dumps(self.widgets)
        self.assertIn("PR(:60000)", text)
        self.assertIn("PR(:2000)", text)
        for page in ("README.md", "docs/monitoring.md"):
            for objective in ("99.9 % of placed orders are confirmed or refused within 60 s", "99.9 % of commits show in reads within 2 s"):
                self.assertTrue(objective in read(page), f"{page}: {objective}")

    def test_every_alarm_is_on_it(self):
        (shown,) = (one["properties"]["alarms"] for one in self.widgets if one["type"] == "alarm")
        self.assertEqual(sorted(named_in(arn) for arn in shown), sorted(alarms(self.main)))
        self.assertLessEqual(len(shown), 100)

    def test_the_bound_is_that_of_the_alarm(self):
        (line,) = (line for properties, _ in self.queries() for line in properties.get("annotations", {}).get("horizontal", []))
        self.assertEqual(float(line["value"]), float(alarms(self.main)["CostsTooMuch"]["Threshold"]))

    def test_nothing_lies_on_anything_else(self):
        taken = set()
        for one in self.widgets:
            cells = {(x, y) for x in range(one["x"], one["x"] + one["width"]) for y in range(one["y"], one["y"] + one["height"])}
            self.assertTrue(all(x < 24 for x, _ in cells))
            self.assertFalse(cells & taken, one["properties"].get("title"))
            taken |= cells
        self.assertRegex(self.name, r"^[\w-]{1,255}$")
        self.assertLessEqual(len(self.widgets), 500)


# ---------------------------------------------------------------- the runbook


class Runbook(unittest.TestCase):
    def test_every_alarm_has_its_heading_and_every_heading_its_alarm(self):
        groups = yaml.safe_load(read("infra/prometheus/rules.yml"))["groups"]
        alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
        self.assertEqual(sorted(re.findall(r"^### (\w+)$", RUNBOOK, re.M)), sorted(set(alarms(prod())) | alerts))
        for name, alarm in alarms(prod()).items():
            self.assertTrue(alarm["AlarmDescription"].endswith(f" What to do is in docs/runbook.md#{name.lower()}"), name)

    def test_every_heading_says_what_it_means_what_to_look_at_what_to_do_and_when_to_wake_somebody(self):
        for text in re.split(r"^### ", RUNBOOK, flags=re.M)[1:]:
            name, body = text.split("\n", 1)
            for part in ("*Means:*", "*Look:*", "*Do:*", "*Wake somebody:*"):
                self.assertIn(part, body, name)

    def test_its_commands_name_what_there_is(self):
        main, makefile = prod(), read("Makefile")
        for target in re.findall(r"`?make (?:-s )?([a-z-]+)", RUNBOOK):
            self.assertRegex(makefile, rf"(?m)^{target}:", f"make {target}")
        deeds = {function["FunctionName"].removeprefix(f"{main.name}-") for function in functions(main).values()}
        for deed in re.findall(r"(?:\$STACK-|`mapping )([a-z-]+)", RUNBOOK):
            self.assertIn(deed, deeds)
        for message in re.findall(r'said "([^"]+)"', RUNBOOK):
            self.assertTrue(written(message))
        for parameter in re.findall(r"`([A-Z][a-z]\w+)=`", RUNBOOK):
            self.assertIn(parameter, source("template.yaml")["Parameters"])
        for logical in re.findall(r"\$\(id (\w+)\)", RUNBOOK):
            self.assertIn(logical, main.resources)


if __name__ == "__main__":
    unittest.main()

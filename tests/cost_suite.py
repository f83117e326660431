"""Holds what infra/local/meter.py counts to DynamoDB's rules, by cases worked out by hand, and what infra/cost/measure.py makes of it.

Runs with the libraries of infra/local/emulator.txt: .local/tools/emulator/bin/python tests/cost_suite.py
"""
from __future__ import annotations

import asyncio
import collections
import json
import logging
import sys
import tempfile
import unittest
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "infra" / "local"), str(ROOT / "infra" / "cost")]

import measure  # noqa: E402
import meter  # noqa: E402
from ministack.services import dynamodb  # noqa: E402

logging.disable(logging.WARNING)
meter.install(Path(tempfile.gettempdir()) / f"{uuid.uuid4()}.jsonl")  # which is never there: the cases ask the meter themselves


def call(operation: str, data: dict) -> dict:
    """What the meter says of this call of the emulator's DynamoDB."""
    line: dict = {}
    request = ("POST", "/", {"x-amz-target": f"DynamoDB_20120810.{operation}"}, json.dumps(data).encode(), {})
    answer = asyncio.run(meter.item_call(operation, dynamodb.handle_request, request, line))
    return line | {"status": answer[0], "answer": json.loads(answer[2])}


def item(key: str, size: int, **more: str) -> dict:
    """An item of so many bytes: names and values are counted, each character as a byte here."""
    texts = {"id": key} | more
    filler = size - sum(len(name) + len(text) for name, text in texts.items()) - len("text")
    return {name: {"S": text} for name, text in (texts | {"text": "x" * filler}).items()}


class Units(unittest.TestCase):
    def setUp(self):
        self.table = f"Cases-{uuid.uuid4()}"
        self.create(self.table, [{"AttributeName": "id", "KeyType": "HASH"}], [{
            "IndexName": "open-orders", "KeySchema": [{"AttributeName": "open", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status"]}}], ["id", "open"])

    def create(self, name: str, keys: list, indexes: list, attributes: list[str]):
        table = {"TableName": name, "BillingMode": "PAY_PER_REQUEST", "KeySchema": keys,
                 "AttributeDefinitions": [{"AttributeName": attribute, "AttributeType": "S"} for attribute in attributes]}
        request = json.dumps(table | ({"GlobalSecondaryIndexes": indexes} if indexes else {})).encode()
        created = asyncio.run(dynamodb.handle_request("POST", "/", {"x-amz-target": "DynamoDB_20120810.CreateTable"}, request, {}))
        self.assertEqual(created[0], 200, created[2])

    def put(self, new: dict, **more) -> dict:
        return call("PutItem", {"TableName": self.table, "Item": new} | more)

    def written(self, line: dict) -> float:
        return line["write_units"][self.table]

    def read(self, line: dict) -> float:
        return line["read_units"][self.table]

    def test_a_write_is_a_unit_for_each_kilobyte_begun_of_the_larger_item(self):
        self.assertEqual(self.written(self.put(item("a", 1024))), 1)
        self.assertEqual(self.written(self.put(item("b", 1025))), 2)
        self.assertEqual(self.written(self.put(item("b", 100))), 2, "what was there was larger")
        self.assertEqual(self.written(call("DeleteItem", {"TableName": self.table, "Key": {"id": {"S": "a"}}})), 1)
        self.assertEqual(self.written(call("DeleteItem", {"TableName": self.table, "Key": {"id": {"S": "nobody"}}})), 1)
        grown = {"TableName": self.table, "Key": {"id": {"S": "b"}}, "UpdateExpression": "SET #more = :more",
                 "ExpressionAttributeNames": {"#more": "more"}, "ExpressionAttributeValues": {":more": {"S": "x" * 2000}}}
        self.assertEqual(self.written(call("UpdateItem", grown)), 3, "100 + 4 + 2000 bytes")

    def test_an_index_is_written_when_what_it_shows_changes_and_twice_when_an_entry_moves(self):
        self.assertEqual(self.written(self.put(item("a", 3000, open="1", status="created"))), 3 + 1)
        self.assertEqual(self.written(self.put(item("a", 2900, open="1", status="created"))), 3)
        self.assertEqual(self.written(self.put(item("a", 3000, open="1", status="paid"))), 3 + 1)
        self.assertEqual(self.written(self.put(item("a", 3000, open="2", status="paid"))), 3 + 2)
        self.assertEqual(self.written(self.put(item("a", 3000, status="paid"))), 3 + 1)

    def test_a_transaction_costs_twice_its_indexes_once_and_a_check_as_a_write(self):
        puts = [{"Put": {"TableName": self.table, "Item": item("a", 1500, open="1")}}, {"Put": {"TableName": self.table, "Item": item("b", 10)}}]
        self.assertEqual(self.written(call("TransactWriteItems", {"TransactItems": puts})), 2 * 2 + 1 + 2 * 1)
        check = {"ConditionCheck": {"TableName": self.table, "Key": {"id": {"S": "a"}}, "ConditionExpression": "attribute_exists(id)"}}
        self.assertEqual(self.written(call("TransactWriteItems", {"TransactItems": [check, puts[1]]})), 2 * 2 + 2 * 1)
        check["ConditionCheck"]["ConditionExpression"] = "attribute_not_exists(id)"
        refused = call("TransactWriteItems", {"TransactItems": [check, puts[1]]})
        self.assertEqual((refused["status"], self.written(refused)), (400, 2 * 2 + 2 * 1))

    def test_a_write_that_is_refused_costs_by_the_larger_item_and_stores_nothing(self):
        self.put(item("a", 2500))
        refused = self.put(item("a", 100), ConditionExpression="attribute_not_exists(id)")
        self.assertEqual((refused["status"], self.written(refused)), (400, 3))
        self.assertNotIn("stored_bytes", refused)

    def test_a_batch_of_writes_costs_as_its_writes_do(self):
        batch = {self.table: [{"PutRequest": {"Item": item(key, 600)}} for key in "abc"]}
        self.assertEqual(self.written(call("BatchWriteItem", {"RequestItems": batch})), 3)

    def test_a_read_is_a_unit_for_each_four_kilobytes_begun_and_half_without_consistency(self):
        self.put(item("a", 4096))
        self.put(item("b", 4097))
        for key, whole in (("a", 1), ("b", 2), ("nobody", 1)):
            get = {"TableName": self.table, "Key": {"id": {"S": key}}, "ProjectionExpression": "id"}
            self.assertEqual(self.read(call("GetItem", get)), whole / 2)
            self.assertEqual(self.read(call("GetItem", get | {"ConsistentRead": True})), whole)
        keys = {"Keys": [{"id": {"S": key}} for key in ("a", "b", "nobody")]}
        self.assertEqual(self.read(call("BatchGetItem", {"RequestItems": {self.table: keys}})), 2)
        self.assertEqual(self.read(call("BatchGetItem", {"RequestItems": {self.table: keys | {"ConsistentRead": True}}})), 4)
        get = [{"Get": {"TableName": self.table, "Key": {"id": {"S": "b"}}}}]
        self.assertEqual(self.read(call("TransactGetItems", {"TransactItems": get})), 4)

    def test_a_query_is_rounded_up_once_over_all_that_it_has_looked_at(self):
        self.table = f"Lists-{uuid.uuid4()}"
        self.create(self.table, [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "place", "KeyType": "RANGE"}], [], ["id", "place"])
        for place in range(10):
            self.put(item("list", 500, place=str(place)))
        query = {"TableName": self.table, "KeyConditionExpression": "id = :id", "ExpressionAttributeValues": {":id": {"S": "list"}}}
        self.assertEqual(self.read(call("Query", query | {"ConsistentRead": True})), 2, "5,000 bytes")
        self.assertEqual(self.read(call("Query", query)), 1)
        self.assertEqual(self.read(call("Query", query | {"Limit": 8})), 0.5)
        self.assertEqual(self.read(call("Query", query | {"Select": "COUNT"})), 1)
        filtered = query | {"FilterExpression": "attribute_not_exists(id)", "ConsistentRead": True}
        self.assertEqual(self.read(call("Query", filtered)), 2, "a filter saves nothing")
        nothing = query | {"ExpressionAttributeValues": {":id": {"S": "nobody"}}}
        self.assertEqual(self.read(call("Query", nothing)), 0.5)

    def test_a_query_of_an_index_reads_what_the_index_has(self):
        for key in "abc":
            self.put(item(key, 4000, open="1"))
        query = {"TableName": self.table, "IndexName": "open-orders", "KeyConditionExpression": "#open = :open",
                 "ExpressionAttributeNames": {"#open": "open"}, "ExpressionAttributeValues": {":open": {"S": "1"}}}
        self.assertEqual(self.read(call("Query", query)), 0.5)

    def test_what_is_stored_is_the_item_its_entries_and_what_each_of_them_costs_beside(self):
        entry = len("id") + 1 + len("open") + 1
        self.assertEqual(self.put(item("a", 500, open="1"))["stored_bytes"], {self.table: 500 + 100 + entry + 100})
        self.assertEqual(self.put(item("a", 300))["stored_bytes"], {self.table: -200 - entry - 100})


class Sums(unittest.TestCase):
    def test_an_order_that_is_beyond_its_budget_or_far_below_is_named_with_how_much(self):
        held = json.loads(measure.BUDGET.read_text())
        kinds = {kind: {"units": dict(units)} for kind, units in held.items()}
        self.assertEqual(measure.beside_budget(kinds), [])
        kinds["happy"]["units"]["state_transitions"] += 1
        kinds["declined"]["units"]["bus_events"] = 0
        above, below = measure.beside_budget(kinds)
        self.assertRegex(above, r"^happy: state_transitions are \d+ an order, 1 \(\d+\.\d%\) above the budget of \d+$")
        self.assertRegex(below, r"^declined: bus_events are 0 an order, 100\.0% below the budget of \d+: ")

    def test_the_counters_and_what_is_known_for_a_while_are_kept_apart_from_the_order(self):
        call_of = {"what": "call", "service": "dynamodb", "operation": "GetItem", "function": "order-service-local-get-order"}
        orders, counters = "order-service-local-OrdersTable-1A", "order-service-local-CountersTable-2B"
        lines = [call_of | {"key": {"key": {"S": "1/order/7"}}, "read_units": {orders: 2}},
                 call_of | {"key": {"key": {"S": "generations"}}, "read_units": {orders: 1}},
                 call_of | {"operation": "UpdateItem", "write_units": {counters: 1}}]
        found = measure.used(lines, {}, 2)
        self.assertEqual((found["units"]["dynamodb_read_units"], found["apart"]), (1, {"read_units": 0.5, "write_units": 0.5}))

    def test_an_express_execution_costs_its_time_in_tenths_of_a_second_and_a_standard_one_its_states_and_tries(self):
        history = collections.Counter(ChoiceStateEntered=1, TaskStateEntered=5, SucceedStateEntered=1, TaskScheduled=7)
        self.assertEqual(measure.transitions(history), 7 + 2)
        self.assertAlmostEqual(measure.express_gb_seconds(history), 0.4 * 64 / 1024, msg="350 ms")
        self.assertAlmostEqual(measure.express_gb_seconds(collections.Counter()), 0.1 * 64 / 1024)

    def test_every_unit_of_the_budget_has_a_price(self):
        self.assertEqual(set(measure.BUDGETED) - set(measure.PRICES["per_order"]), set())

    def test_everything_that_watches_is_counted_as_it_is_paid_for(self):
        text = "".join((ROOT / path).read_text() for path in ("template.yaml", "infra/alarms.yaml"))
        counted = measure.what_watches()
        of_canaries = "    Type: AWS::CloudWatch::Alarm\n    Condition: CallsGoOverGradually\n"
        canaries = [alarm.split("\n\n")[0] for alarm in text.split(of_canaries)[1:]]
        their_metrics = sum(alarm.count("MetricStat:") or 1 for alarm in canaries)
        for alarm in canaries:
            text = text.replace(of_canaries + alarm, "")
        alarms, on_expressions = text.count("Type: AWS::CloudWatch::Alarm"), text.count("      Metrics:\n")
        self.assertEqual(counted["alarms"], alarms)
        self.assertEqual(counted["watched"], alarms - on_expressions + text.count("MetricStat:"))
        self.assertEqual(counted["dashboards"], 1)
        told = (ROOT / "docs/cost.md").read_text()
        for row in (f"| {alarms} alarms on {counted['watched']} metrics, ", f"| {counted['metrics']} metrics that filters make of log lines, "):
            self.assertTrue(row in told, row)
        self.assertTrue(f"{len(canaries)} alarms on {their_metrics} metrics watch a canary" in told)
        self.assertGreater(counted["metrics"], 1)


if __name__ == "__main__":
    unittest.main()

"""Holds infra/local/failing.py to what it promises: whose calls fail, of which tables, how many, and as what.

Runs with the libraries of infra/local/emulator.txt: .local/tools/emulator/bin/python tests/failing_suite.py
"""
from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra" / "local"))

import failing  # noqa: E402

FUNCTION = "arn:aws:sts::000000000000:assumed-role/role/function"
GONE = {"error": "InternalServerError", "percent": 100, "tables": ["payments"]}
TOO_MUCH = {"error": failing.THROTTLED, "percent": 100, "tables": []}


class Calls(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def ask(self, data: dict, caller: str = FUNCTION) -> tuple[int, str]:
        async def table(*_):
            return 200, {}, b"{}"

        with mock.patch.object(failing, "caller_arn", return_value=caller):
            status, headers, body = asyncio.run(failing.failing(table, self.folder)("POST", "/", {}, json.dumps(data).encode(), {}))
        self.assertEqual(headers.get("x-amzn-errortype", ""), json.loads(body).get("__type", "").rpartition("#")[2])
        self.answer = json.loads(body)
        return status, headers.get("x-amzn-errortype", "")

    def has_fail(self, wanted: dict):
        (self.folder / "failing.json").write_text(json.dumps(wanted))

    def test_nothing_fails_of_itself_nor_for_who_is_no_function(self):
        self.assertEqual(self.ask({"TableName": "payments"}), (200, ""))
        self.has_fail(GONE)
        self.assertEqual(self.ask({"TableName": "payments"}, "arn:aws:iam::000000000000:root"), (200, ""))
        self.assertFalse((self.folder / "failed.jsonl").exists())

    def test_calls_of_the_tables_that_are_named_fail_and_no_others(self):
        self.has_fail(GONE)
        gone = (500, "InternalServerError")
        self.assertEqual(self.ask({"TableName": "payments"}), gone)
        self.assertEqual(self.ask({"TableName": "orders"}), (200, ""))
        self.assertEqual(self.ask({"RequestItems": {"orders": {}, "payments": {}}}), gone)
        self.assertEqual(self.ask({"TransactItems": [{"Put": {"TableName": "orders"}}, {"Update": {"TableName": "payments"}}]}), gone)
        failed = [json.loads(line)["tables"] for line in (self.folder / "failed.jsonl").read_text().splitlines()]
        self.assertEqual(failed, [["payments"], ["orders", "payments"], ["orders", "payments"]])

    def test_a_transaction_that_is_too_much_says_which_part_was(self):
        self.has_fail(TOO_MUCH)
        self.assertEqual(self.ask({"TableName": "orders"}), (400, failing.THROTTLED))
        self.assertEqual(self.ask({"TransactItems": [{"Put": {"TableName": "a"}}, {"Delete": {"TableName": "b"}}]}), (400, "TransactionCanceledException"))
        self.assertEqual([reason["Code"] for reason in self.answer["CancellationReasons"]], ["ProvisionedThroughputExceeded", "None"])

    def test_so_many_of_a_hundred_fail(self):
        self.has_fail(TOO_MUCH | {"percent": 30})
        failed = sum(self.ask({"TableName": "orders"})[0] == 400 for _ in range(500))
        self.assertTrue(80 < failed < 220, failed)
        self.has_fail(TOO_MUCH | {"percent": 0})
        self.assertEqual(self.ask({"TableName": "orders"}), (200, ""))


if __name__ == "__main__":
    unittest.main()

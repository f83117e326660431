"""Tries infra/rebuild.py on a stack that is made up: what it says beforehand, what it compares, and when it switches.

The function and the state machine themselves are tried by `shared/application/tests/projection.rs` and, on a stack, by `tests/system/rebuild.rs`. Runs with the libraries of
infra/local/sam.txt: .local/tools/sam/bin/python tests/rebuild_suite.py
"""
from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import sys
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra"))

import rebuild  # noqa: E402

NOTHING = {"orders": 0, "missing": 0, "behind": 0, "added": 0, "changed": 0, "fields": {}, "profiles": 0, "lists": 0, "hours": 0, "sample": []}


class Stack:
    """A function that answers as rebuild-orders does, and a state machine that goes a step further each time that somebody looks. These
    differences it finds in each segment."""

    def __init__(self, stops: str = "", **found):
        self.found, self.stops, self.asked, self.started, self.steps = NOTHING | {"orders": 6} | found, stops, [], [], None
        self.standing = {"live": 1, "building": None, "outgoing": None, "clearing": None, "wait_seconds": 1, "segments": [], "comparisons": [],
                         "uncounted": 0, "unreadable": 0, "unreadable_sample": [], "commits": 40_000, "bytes": 40_960_000, "view_items": 50_000, "view_bytes": 20_480_000}

    def ask(self, action: str, **more) -> dict:
        self.asked.append(action)
        standing = self.standing
        if action == "begin":
            part = {"events": 0, "streams": 6, "done": False, "read_units": 1, "uncounted": 0}
            standing |= {"building": 2, "segments": [dict(part) for _ in range(more["segments"])], "comparisons": []}
        elif action == "forget":
            standing["comparisons"] = []
        elif action == "abandon":
            standing |= {"building": None, "clearing": 2, "segments": [], "comparisons": []}
            self.steps = iter([("FAILED", "NotBuilding")])
        return copy.deepcopy(standing)

    def under_way(self) -> str | None:
        return "execution" if self.steps else None

    def start(self, **given) -> str:
        self.started.append(given)
        self.steps = self.go(**given)
        return "execution"

    def go(self, segments=(), units=None, check=False, accept=False, clear=False, clear_units=None):
        standing = self.standing
        if not clear:
            for part in standing["segments"]:
                yield "RUNNING", None
                part |= {"done": True, "events": 20_000}
            if self.stops:
                yield "FAILED", self.stops
            for _ in range(len(standing["segments"]) - len(standing["comparisons"])):
                yield "RUNNING", None
                standing["comparisons"].append({"done": True, "differences": self.found})
            if check:
                yield "SUCCEEDED", None
            if not accept and (self.found["missing"] or self.found["behind"]):
                yield "FAILED", "Lost"
            standing |= {"live": 2, "building": None, "outgoing": 1, "segments": []}
        yield "RUNNING", None
        standing |= {"outgoing": None, "clearing": standing["outgoing"] or standing["clearing"]}
        yield "RUNNING", None
        standing |= {"clearing": None}
        yield "SUCCEEDED", None

    def look(self, execution: str) -> dict:
        status, error = next(self.steps)
        if status != "RUNNING":
            self.steps = None
        return {"status": status} | ({"error": error, "cause": json.dumps({"errorMessage": "it is told why", "errorType": error})} if error else {})


class Rebuild(unittest.TestCase):
    def run_on(self, stack: Stack, **more) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), mock.patch("time.sleep"), mock.patch.object(rebuild, "show_now_and_then", rebuild.show):
            code = rebuild.run(stack, more.pop("segments", 2), more.pop("units", None), **more)
        return code, said.getvalue()

    def test_what_it_takes_is_said_before_anything_is_begun(self):
        _, said = self.run_on(Stack())
        before, _ = said.split("Building generation 2")
        for line in ["40,000 commits, 41.0 MB",
                     "  building          30,000 read units       104,000 write units   $0.0688",
                     "  comparing         42,000 read units             0 write units   $0.0053",
                     "  clearing          10,000 read units        50,000 write units   $0.0325",
                     "  in all            82,000 read units       154,000 write units   $0.1065",
                     "$0.012 of Lambda for each hour of each segment"]:
            self.assertIn(line, before)

    def test_items_that_nobody_has_counted_yet_are_paid_for_all_the_same(self):
        self.assertIn("80,000 write units", rebuild.price(Stack().standing | {"view_items": 0})[2])

    def test_the_machine_does_it_all_and_is_looked_at(self):
        stack = Stack()
        code, said = self.run_on(stack, segments=4, units=100)
        self.assertEqual((code, stack.started), (0, [{"segments": [0, 1, 2, 3], "units": 25, "clear_units": 100, "check": False, "accept": False}]))
        for line in ["] 60,000 events, ", "Comparing: 18 orders, ", "Waiting until nobody reads generation 1 any more", "Clearing generation 1",
                     "24 orders of the new generation were compared with those of the one before\n  nothing is otherwise\nGeneration 2 is read, and no other is left"]:
            self.assertIn(line, said)

    def test_what_may_not_be_counted_is_told(self):
        stack = Stack()
        stack.standing["uncounted"] = 3
        self.assertIn("3 pages were cut short", self.run_on(stack)[1])

    def test_what_could_not_be_read_is_told_and_some_of_it_named(self):
        stack = Stack(missing=1)
        stack.standing |= {"unreadable": 1200, "unreadable_sample": [f"order#{n}" for n in range(20)]}
        code, said = self.run_on(stack)
        self.assertEqual((code, stack.standing["live"]), (1, 1))
        self.assertIn("1,200 streams could not be read to their end", said)
        self.assertIn("is missing: order#0, order#1, ", said)
        self.assertIn("order#9\n", said)
        self.assertNotIn("order#10", said)
        self.assertNotIn("could not be read", self.run_on(Stack())[1])

    def test_how_long_the_rest_takes_is_said(self):
        with mock.patch("time.monotonic", side_effect=itertools.count(0, 10)):
            _, said = self.run_on(Stack(), segments=4)
        self.assertRegex(said, r"60,000 events, .*/s, \d+:\d\d left|Comparing: 18 orders, \d+:\d\d left")

    def test_another_view_is_told_by_its_fields_and_stops_nothing(self):
        stack = Stack(changed=2, hours=1, fields={"status": 2, "shipment": 1}, sample=["order#1", "order#2"])
        code, said = self.run_on(stack)
        self.assertEqual((code, stack.standing["live"]), (0, 2))
        self.assertIn("  4 orders look otherwise (shipment 2, status 4)\n  2 hours have other sums\n  for example order#1, order#2\n", said)

    def test_whoever_wants_to_see_first_is_not_switched_and_may_look_again(self):
        for stack, code in [(Stack(), 0), (Stack(changed=1), 1), (Stack(hours=1), 1), (Stack(missing=1), 1)]:
            for _ in range(2):
                ended, said = self.run_on(stack, check=True)
                self.assertEqual((ended, stack.standing["live"]), (code, 1))
                self.assertIn("run it again without CHECK to switch", said)
            self.assertEqual((stack.asked.count("begin"), stack.asked.count("forget")), (1, 2))
            self.assertEqual(self.run_on(stack)[0], int(bool(stack.found["missing"])))

    def test_a_generation_that_lacks_something_is_not_read_unless_that_is_accepted(self):
        for lacks, words in [("missing", "2 orders are missing"), ("behind", "2 orders lack events")]:
            stack = Stack(**{lacks: 1})
            code, said = self.run_on(stack)
            self.assertEqual((code, stack.standing["live"]), (1, 1))
            self.assertIn(words, said)
            self.assertIn("error: Lost: it is told why\nNot switched", said)
            self.assertEqual(self.run_on(stack, accept=True)[0], 0)
            self.assertEqual(stack.standing["live"], 2)

    def test_what_has_failed_says_why_and_goes_on_the_next_time(self):
        stack = Stack(stops="Unavailable")
        code, said = self.run_on(stack)
        self.assertEqual(code, 1)
        self.assertIn("error: Unavailable: it is told why", said)
        stack.stops = ""
        code, said = self.run_on(stack)
        self.assertEqual((code, stack.asked.count("begin"), stack.standing["live"]), (0, 1, 2))
        self.assertIn("Going on with generation 2", said)

    def test_who_comes_later_looks_on_and_starts_nothing(self):
        stack = Stack()
        stack.ask("begin", segments=2)
        stack.start(segments=[0, 1])
        code, said = self.run_on(stack)
        self.assertEqual((code, len(stack.started)), (0, 1))
        self.assertIn("A rebuild is under way; looking on", said)

    def test_what_is_given_up_is_cleared_once_the_machine_has_noticed(self):
        stack = Stack()
        stack.ask("begin", segments=2)
        stack.start(segments=[0, 1])
        code, said = self.run_on(stack, abandon=True)
        self.assertEqual((code, stack.started[1:], stack.standing["clearing"], stack.standing["live"]), (0, [{"clear": True, "clear_units": None}], None, 1))
        self.assertIn("Generation 2 is given up", said)
        self.assertEqual(self.run_on(stack, abandon=True), (0, ""))

    def test_what_an_earlier_rebuild_has_left_is_cleared_and_no_other_is_begun(self):
        stack = Stack()
        stack.standing |= {"live": 3, "clearing": 2}
        self.assertEqual((self.run_on(stack, units=50)[0], stack.started), (0, [{"clear": True, "clear_units": 50}]))

    def test_only_so_many_streams_are_named(self):
        standing = {"comparisons": [{"differences": NOTHING | {"sample": [f"order#{part}-{n}" for n in range(3)] + ["order#same"]}} for part in range(5)]}
        sample = rebuild.differences(standing)["sample"]
        self.assertEqual((len(sample), len(set(sample))), (rebuild.SAMPLE, rebuild.SAMPLE))


if __name__ == "__main__":
    unittest.main()

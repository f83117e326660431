"""Tries infra/rebuild.py on a function that is made up: what it says beforehand, what it compares, and when it switches.

The function itself is tried by `shared/application/tests/projection.rs` and, on a stack, by `tests/system/rebuild.rs`. Runs with the libraries of
infra/local/sam.txt: .local/tools/sam/bin/python tests/rebuild_suite.py
"""
from __future__ import annotations

import contextlib
import io
import sys
import threading
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra"))

import rebuild  # noqa: E402

NOTHING = {"orders": 0, "missing": 0, "behind": 0, "added": 0, "changed": 0, "fields": {}, "profiles": 0, "lists": 0, "hours": 0, "sample": []}


class Function:
    """As rebuild-orders answers, with no time to wait. It finds these differences in each slice, of which every segment has two."""

    def __init__(self, hours: int = 0, **differences):
        self.found = NOTHING | {"orders": 3} | differences
        self.hours, self.asked, self.alone = hours, [], threading.Lock()
        self.standing = {"live": 1, "building": None, "outgoing": None, "clearing": None, "wait_seconds": 0, "segments": [], "commits": 40_000,
                         "bytes": 40_960_000, "view_items": 50_000, "view_bytes": 20_480_000}

    def ask(self, action: str, **more) -> dict:
        with self.alone:
            self.asked.append((action, more))
            answer = {"differences": NOTHING, "compare_after": None, "cleared": 0, "clear_after": None}
            standing = self.standing
            if action == "begin":
                done = {"events": 0, "streams": 6, "done": False, "read_units": 1, "uncounted": 0}
                standing |= {"building": 2, "segments": [dict(done) for _ in range(more["segments"])]}
            elif action == "work":
                standing["segments"][more["segment"]] |= {"done": True, "events": 20_000}
            elif action == "compare_hours":
                answer["differences"] = NOTHING | {"hours": self.hours, "fields": {}, "sample": []}
            elif action == "compare":
                answer |= {"differences": self.found, "compare_after": None if more["after"] else "the second slice"}
            elif action == "switch":
                standing |= {"live": 2, "building": None, "outgoing": 1}
            elif action == "retire":
                standing |= {"outgoing": None, "clearing": 1}
            elif action == "clear":
                standing |= {"clearing": None}
                answer["cleared"] = 50_000
            elif action == "abandon":
                standing |= {"building": None, "clearing": 2}
            return standing | answer

    ask_again = ask

    def actions(self) -> list[str]:
        return [action for action, _ in self.asked]


class Rebuild(unittest.TestCase):
    def run_on(self, function: Function, **more) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), mock.patch("time.sleep", side_effect=AssertionError("there is nothing to wait for")):
            code = rebuild.run(function, more.pop("segments", 2), more.pop("units", None), **more)
        return code, said.getvalue()

    def test_what_it_takes_is_said_before_anything_is_begun(self):
        function = Function()
        _, said = self.run_on(function)
        before, _ = said.split("Building generation 2")
        for line in ["40,000 commits, 41.0 MB",
                     "  building          30,000 read units       104,000 write units   $0.0688",
                     "  comparing         42,000 read units             0 write units   $0.0053",
                     "  clearing          10,000 read units        50,000 write units   $0.0325",
                     "  in all            82,000 read units       154,000 write units   $0.1065",
                     "$0.012 of Lambda for each hour of each segment"]:
            self.assertIn(line, before)

    def test_items_that_nobody_has_counted_yet_are_paid_for_all_the_same(self):
        standing = Function().standing | {"view_items": 0}
        self.assertIn("80,000 write units", rebuild.price(standing)[2])

    def test_what_is_built_is_compared_then_read_and_what_was_read_is_cleared(self):
        function = Function()
        code, said = self.run_on(function)
        self.assertEqual(code, 0)
        self.assertEqual([action for action in function.actions() if action not in ("status", "work")],
                         ["begin", "compare_hours", "compare", "compare", "compare", "compare", "switch", "retire", "clear"])
        self.assertIn("12 orders were compared with those of generation 1\n  nothing is otherwise\nGeneration 2 is read from now on", said)
        self.assertIn("cleared: 50,000 items", said)

    def test_another_view_is_told_by_its_fields_and_stops_nothing(self):
        function = Function(hours=1, changed=2, fields={"status": 2, "shipment": 1}, sample=["order#1", "order#2"])
        code, said = self.run_on(function)
        self.assertEqual((code, "switch" in function.actions()), (0, True))
        self.assertIn("  8 orders look otherwise (shipment 4, status 8)\n  1 hours have other sums\n  for example order#1, order#2\n", said)

    def test_whoever_wants_to_see_first_is_not_switched(self):
        for function, code in [(Function(), 0), (Function(changed=1), 1), (Function(hours=1), 1)]:
            ended, said = self.run_on(function, check=True)
            self.assertEqual((ended, "switch" in function.actions()), (code, False))
            self.assertIn("run it again without CHECK to switch", said)
            self.assertEqual(self.run_on(function), (0, mock.ANY))
            self.assertEqual(function.actions().count("begin"), 1)

    def test_a_generation_that_lacks_something_is_not_read_unless_that_is_accepted(self):
        for lacks, words in [("missing", "4 orders are only in generation 1"), ("behind", "4 orders have fewer events in generation 2")]:
            function = Function(**{lacks: 1})
            code, said = self.run_on(function)
            self.assertEqual((code, "switch" in function.actions()), (1, False))
            self.assertIn(words, said)
            self.assertIn("Not switched", said)
            self.assertEqual(self.run_on(function, accept=True)[0], 0)
            self.assertIn("switch", function.actions())

    def test_segments_share_the_pace(self):
        function = Function()
        self.run_on(function, segments=4, units=100)
        paces = {more["units_per_second"] for action, more in function.asked if action in ("work", "compare")}
        self.assertEqual(paces, {25})

    def test_a_segment_that_fails_stops_the_others_and_the_switch(self):
        function = Function()
        ask = function.ask

        def fail(action, **more):
            if action == "compare" and more["segment"] == 1:
                raise rebuild.Refused("the event table is unavailable", "Unavailable")
            return ask(action, **more)

        function.ask = function.ask_again = fail
        with self.assertRaises(rebuild.Refused):
            self.run_on(function)
        self.assertNotIn("switch", function.actions())

    def test_only_so_many_streams_are_named(self):
        found = NOTHING | {"fields": {}}
        for number in range(5):
            rebuild.add(found, NOTHING | {"sample": [f"order#{number}-{n}" for n in range(3)] + ["order#same"]})
        self.assertEqual((len(found["sample"]), len(set(found["sample"]))), (rebuild.SAMPLE, rebuild.SAMPLE))


if __name__ == "__main__":
    unittest.main()

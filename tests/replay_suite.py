"""Tries infra/replay.py: what it shows of two builds' answers, what it stops, and how it hands an export to its program.

The program itself, shared/replay, has its own tests; here others stand in for it. Runs with the libraries of infra/local/sam.txt:
.local/tools/sam/bin/python tests/replay_suite.py
"""
from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra"))

import deploy  # noqa: E402
import replay  # noqa: E402

# Says of each item that comes where it stands, and that all orders are of this status.
PROGRAM = """
import json, sys
for number, line in enumerate(sys.stdin):
    stream = json.loads(line)["Item"]["stream"]["S"]
    print(json.dumps({"stream": f"{stream}", "version": number, "view": {"status": "STATUS", "refunds": []}}, sort_keys=True))
"""


def program(status: str) -> list:
    return [sys.executable, "-c", PROGRAM.replace("STATUS", status)]


def item(stream: str, version: int) -> dict:
    return {"Item": {"stream": {"S": stream}, "version": {"N": str(version)}}}


def order(number: int, **more) -> dict:
    return {"stream": f"order#{number}", "version": 5, "view": {"status": "confirmed", "refunds": [{"amount": 1}]}, "next": {"cancel": "nothing"}} | more


class Replay(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        root = mock.patch.object(replay, "ROOT", self.folder)
        root.start()
        self.addCleanup(root.stop)
        commit = mock.patch.object(replay, "version", lambda: "0123456789ab")
        commit.start()
        self.addCleanup(commit.stop)

    def export(self, *files: list[dict], **manifest) -> Path:
        export = self.folder / "export"
        export.mkdir()
        for number, items in enumerate(files):
            with gzip.open(export / f"{number}.json.gz", "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(item) + "\n" for item in items)
        (export / "manifest.json").write_text(json.dumps(manifest))
        return export

    def answers(self, name: str, *answers: dict) -> Path:
        file = self.folder / name
        file.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        return file

    def compared(self, old: list[dict], new: list[dict], *accept: str) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            count = replay.compare(self.answers("old", *old), self.answers("new", *new), list(accept))
        return count, said.getvalue()

    def test_the_same_answers_have_no_differences(self):
        self.assertEqual(self.compared([order(1), order(2)], [order(1), order(2)]),
                         (0, "2 streams, 0 of them with differences; 0 that this build cannot read\n"))

    def test_what_is_another_than_it_was_is_shown_and_counted_by_field(self):
        paid = {"status": "paid", "refunds": [{"amount": 2}, {"amount": 3}]}
        count, said = self.compared([order(1), order(2)], [order(1, view=paid), order(2, error="unknown event type \"X\"")])
        self.assertEqual(count, 4)
        for line in ['order#1 view.status: "confirmed" -> "paid"', "order#1 view.refunds[0].amount: 1 -> 2",
                     'order#1 view.refunds[1].amount: "(nothing)" -> 3', 'order#2 error: "(nothing)" -> "unknown event type \\"X\\""',
                     "       2  view.refunds[].amount", "       1  view.status",
                     "2 streams, 2 of them with differences; 1 that this build cannot read"]:
            self.assertIn(line + "\n", said)

    def test_a_stream_that_only_one_build_has_is_a_difference(self):
        count, said = self.compared([order(1), order(3)], [order(2), order(3), order(4)])
        self.assertEqual(count, 3)
        self.assertIn('order#1 stream: "there" -> "not there"\norder#2 stream: "not there" -> "there"\n', said)
        self.assertIn("4 streams, 3 of them", said)

    def test_what_is_accepted_stops_nothing_and_only_that(self):
        new = [order(1, view={"status": "paid", "statuses": 1, "refunds": [{"amount": 1}]})]
        count, said = self.compared([order(1)], new, "view.status", "next")
        self.assertEqual(count, 1)
        self.assertIn("       1  view.status  (accepted)\n", said)
        self.assertNotIn("order#1 view.status:", said)
        self.assertEqual(self.compared([order(1)], new, "view")[0], 0)
        self.assertEqual(self.compared([order(1)], [order(1, view={"status": "confirmed", "refunds": []})], "view.refunds")[0], 0)

    def test_of_many_differences_some_are_shown_and_all_counted(self):
        old, new = ([order(number, version=version) for number in range(100, 160)] for version in (5, 6))
        count, said = self.compared(old, new)
        self.assertEqual((count, said.count("version: 5 -> 6")), (60, replay.SHOWN))
        self.assertIn("... and 40 more\n      60  version\n", said)

    def test_the_program_has_each_stream_as_a_whole_and_in_order_whatever_the_files_are(self):
        export = self.export([item("order#b", 10), item("order#a", 2), item("customer#an id", 1)], [item("order#b", 9), item("order#a", 1), item("order#b", 1)])
        replay.pipe(replay.to_be_sorted(export), [["sort"], ["cut", "-f", "3-"]], self.folder / "sorted")
        sorted_items = [json.loads(line) for line in (self.folder / "sorted").read_text().splitlines()]
        self.assertEqual(sorted_items, [item("customer#an id", 1), item("order#a", 1), item("order#a", 2),
                                        item("order#b", 1), item("order#b", 9), item("order#b", 10)])

    def test_a_build_that_makes_something_else_of_an_export_is_stopped(self):
        export = self.export([item("order#1", 1)], [item("order#2", 1)], anonymised=True)
        with self.assertRaisesRegex(SystemExit, "RECORD=1"):
            replay.check(export, None, [], program("confirmed"))
        replay.record(export, replay.answers_now(export, program("confirmed")))
        self.assertEqual(replay.check(export, None, [], program("confirmed")), self.folder / ".local/replay/0123456789ab.jsonl")
        with self.assertRaisesRegex(SystemExit, "something else"):
            replay.check(export, None, [], program("paid"))
        replay.check(export, None, ["view.status"], program("paid"))
        with self.assertRaisesRegex(SystemExit, "something else"):
            replay.check(export, self.answers("other", order(1)), [], program("confirmed"))

    def test_a_program_that_fails_is_no_answer(self):
        export = self.export([item("order#1", 1)] * 20_000, anonymised=True)
        with self.assertRaisesRegex(SystemExit, "ended with 2"):
            replay.answers_now(export, [sys.executable, "-c", "import sys; sys.exit(2)"])
        self.assertEqual([path.name for path in (self.folder / ".local/replay").iterdir()], [])

    def test_an_export_that_says_who_has_ordered_is_not_replayed(self):
        export = self.export([item("order#1", 1)])
        with self.assertRaisesRegex(SystemExit, "make anonymise"):
            replay.answers_now(export, program("confirmed"))

    def test_what_is_anonymised_says_so_and_has_every_item(self):
        export, to = self.export([item("order#1", 1)], [item("order#2", 1)], table="events"), self.folder / "to"
        copy = [sys.executable, "-c", "import shutil, sys; shutil.copyfileobj(sys.stdin, sys.stdout)"]
        replay.anonymise(export, to, copy)
        self.assertEqual(json.loads((to / "manifest.json").read_text()), {"table": "events", "anonymised": True, "items": 2})
        self.assertEqual([json.loads(line) for line in replay.lines(to)], [item("order#1", 1), item("order#2", 1)])
        with self.assertRaisesRegex(SystemExit, "is not empty"):
            replay.anonymise(export, to, copy)
        with self.assertRaisesRegex(SystemExit, "no export"):
            replay.anonymise(self.folder / "none", to)

    def test_nothing_is_built_or_deployed_before_it_is_replayed(self):
        done = []

        class Stage(mock.MagicMock):
            def sam(self, command, *_, **__):
                done.append(command)

        stage = Stage()
        stage.name, stage.settings, stage.overrides, stage.describe.return_value = "dev", {"stack_name": "x"}, {}, None
        stage.outputs.return_value = {}
        arguments = argparse.Namespace(at_once=False, stage="dev", architecture=None, seed=False, staff=None, prompt=False, replay=Path("export"), accept=["view"])
        with mock.patch.multiple(deploy, Stage=lambda *_: stage, build=lambda _: done.append("build") or Path("t"), check=mock.DEFAULT, tell=mock.DEFAULT, effective_parameters=lambda *_: {"WarmMinimum": "0", "WarmMaximum": "10", "CommandConcurrency": "0"}, ask_rebuild=mock.DEFAULT, forget_versions=mock.DEFAULT), mock.patch.object(deploy.stack, "stamped", lambda template, _: template), \
                mock.patch.object(replay, "record", lambda *given: done.append(given)):
            with mock.patch.object(replay, "check", side_effect=SystemExit("stopped")), self.assertRaisesRegex(SystemExit, "stopped"):
                deploy.deploy(arguments)
            self.assertEqual(done, [])
            with mock.patch.object(replay, "check", return_value=Path("new")) as check:
                deploy.deploy(arguments)
        check.assert_called_once_with(Path("export"), None, ["view"])
        self.assertEqual(done, ["build", "deploy", (Path("export"), Path("new"))])


if __name__ == "__main__":
    unittest.main()

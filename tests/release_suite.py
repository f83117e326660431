"""Holds this version to what the last release reads, because both run at once during a deployment.

tests/last_release.json says which release that is and what it knew: the golden lines of events and views, the words that stand in them, and the
samples of what functions tell each other. What is new is read for one release before it is written: docs/extend.md, "While two versions run".
Once a version is released, this writes the file for the next one, on the commit that was released:

    .local/tools/sam/bin/python tests/release_suite.py pin
"""
from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests" / "last_release.json"

EVENTS = ["shared/domain/src/customer/events.golden.jsonl", "shared/domain/src/order/events.golden.jsonl"]
KEPT = ["shared/domain/src/customer/events.kept.golden.jsonl", "shared/domain/src/order/events.kept.golden.jsonl"]
VIEWS = "shared/domain/src/order_view.golden.jsonl"
# What stands in events and views as a word of a closed list: whoever does not know it can read nothing of what has it.
WORDS = {
    "shared/domain/src/books.rs": ["ShipmentBook"],
    "shared/domain/src/order.rs": ["LateEffect", "OrderStatus", "RefundState", "RejectionReason", "SkippableStep"],
    "shared/domain/src/order_view.rs": ["PaymentStatus", "ShipmentStatus"],
    "shared/domain/src/provider.rs": ["Provider"],
}
# Words that are read already and that nothing here writes, as `SkippableStep::CompareBooks`. No code holds it: whoever adds one has looked.
ONLY_READ: set[str] = set()
STEPS = "shared/application/src/fulfilment.rs"
FORMAT = "shared/adapters/src/dynamodb/read_model.rs"
HELD_BACK = "shared/domain/src/stored_event.rs"


def read(path: str) -> str:
    return (ROOT / path).read_text()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- what this version has


def held_back(source: str) -> set[tuple[str, int]]:
    """The list in the domain, each with the version from which on its events are not written."""
    listed = re.search(r"const HELD_BACK: &\[\(&str, u32\)\] = &\[(.*?)\];", source, re.S)
    return {(name, int(first)) for name, first in re.findall(r'\("(\w+)", (\d+)\)', listed[1])}


def words(source: str, enum: str) -> set[str]:
    body = re.search(rf"pub enum {enum} \{{\n(.*?)^\}}", source, re.M | re.S)[1]
    return {f"{enum}::{name}" for name in re.findall(r"^    (\w+)(?:,| \{)", body, re.M)}


def all_words() -> set[str]:
    return {word for path, enums in WORDS.items() for enum in enums for word in words(read(path), enum)}


def own_samples() -> list[str]:
    """Samples of what the service's own parts tell each other, now and after days in a queue; not of what clients and operators send."""
    return sorted(path.name for path in (ROOT / "events").glob("*.json")
                  if "routeKey" not in path.read_text() and '"action"' not in path.read_text())


def steps(definition: str) -> set[str]:
    """The functions that the state machine calls."""
    return {re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() for name in re.findall(r'"Resource": "\$\{(\w+)Arn\}"', definition)}


def errors(source: str) -> set[str]:
    """The names of a step's errors, which the state machine goes by."""
    return set(re.findall(r'=> "([A-Z]\w+)"', source))


def newest_format(source: str) -> int:
    return int(re.search(r"pub const FORMAT: u32 = (\d+);", source)[1])


def told() -> dict:
    """What a release has to have known for the version after it, as this tree has it."""
    def lines(path: str) -> dict:
        return {"lines": read(path).count("\n"), "sha256": digest(read(path))}

    return {"golden": {path: lines(path) for path in [*EVENTS, *KEPT, VIEWS]}, "words": sorted(all_words()),
            "samples": {name: digest(read(f"events/{name}")) for name in own_samples()},
            "steps": sorted(steps(read("infra/fulfilment.asl.json"))), "errors": sorted(errors(read(STEPS))), "format": newest_format(read(FORMAT))}


# ---------------------------------------------------------------- what is wrong with it


def split(text: str, released: dict) -> tuple[str, list[str]]:
    """A golden file as the last release had it, and the lines that have come since."""
    lines = text.splitlines(keepends=True)
    return "".join(lines[:released["lines"]]), lines[released["lines"]:]


def versions(lines: list[str]) -> set[tuple[str, int]]:
    return {(event["type"], event["schema"]) for event in map(json.loads, lines)}


def wrong_with_golden(path: str, text: str, released: dict) -> list[str]:
    before, _ = split(text, released)
    return [] if digest(before) == released["sha256"] else [f"{path}: a line of the last release has changed or is gone"]


def wrong_with_written(new: set[tuple[str, int]], held: set[tuple[str, int]]) -> list[str]:
    """`new` are the types and versions that the last release cannot read."""
    first = {name: min(schema for other, schema in new if other == name) for name, _ in new}
    return [f"the last release cannot read {name} of version {schema}: add (\"{name}\", {schema}) to HELD_BACK, until a release reads it"
            for name, schema in sorted(first.items()) if (name, schema) not in held] + [
            f"the last release reads {name} of version {schema}, or there is none: take it out of HELD_BACK"
            for name, schema in sorted(held) if first.get(name) != schema]


def wrong_with_words(now: set[str], released: list[str], only_read: set[str]) -> list[str]:
    return [f"{word} is gone, and stands in what was stored" for word in sorted(set(released) - now)] + [
            f"the last release cannot read {word}: have nothing write it before the next one, and add it to ONLY_READ"
            for word in sorted(now - set(released) - only_read)] + [
            f"the last release reads {word}: take it out of ONLY_READ" for word in sorted(only_read & set(released))]


def wrong_with_samples(now: dict[str, str], released: dict[str, str]) -> list[str]:
    return [f"events/{name} is not what the last release told this function: keep it, and give its tests another one beside it"
            for name, sample in sorted(released.items()) if name in now and now[name] != sample]


def wrong_with_steps(functions: set[str], errors: set[str], released: dict) -> list[str]:
    """An execution goes on for a day with the definition that it began with."""
    return [f"executions that began before the deployment call {step}, which is gone" for step in released["steps"] if step not in functions] + [
            f"executions that began before the deployment go by the error {name}, which is gone" for name in released["errors"] if name not in errors]


def wrong_with_views(text: str, released: dict, now: int, before: int, changelog: str) -> list[str]:
    _, new = split(text, released)
    newest = max(json.loads(line)["format"] for line in text.splitlines())
    found = []
    if newest != now:
        found.append(f"{VIEWS}: there has to be a line of format {now}, and none of a later one")
    if now < before:
        found.append(f"format {now} was {before} in the last release")
    if any(json.loads(line)["format"] <= before for line in new):
        found.append(f"{VIEWS}: what is new is not of a new format: raise FORMAT in {FORMAT}")
    unreleased = changelog.partition("## Unreleased\n")[2].partition("\n## ")[0]
    if now > before and "make rebuild VIEW=orders" not in unreleased:
        found.append("CHANGELOG.md does not say that views need `make rebuild VIEW=orders`")
    return found


# ---------------------------------------------------------------- the checks


class Release(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.released = json.loads(FILE.read_text())

    def new_lines(self, paths: list[str]) -> list[str]:
        return [line for path in paths for line in split(read(path), self.released["golden"][path])[1]]

    def test_what_was_stored_stays_as_it_was(self):
        for path, released in self.released["golden"].items():
            self.assertEqual(wrong_with_golden(path, read(path), released), [])

    def test_nothing_is_written_that_the_last_release_cannot_read(self):
        self.assertEqual(wrong_with_written(versions(self.new_lines(EVENTS)), held_back(read(HELD_BACK))), [])

    def test_no_word_is_written_that_the_last_release_does_not_know(self):
        self.assertEqual(wrong_with_words(all_words(), self.released["words"], ONLY_READ), [])

    def test_functions_understand_what_those_of_the_last_release_tell_them(self):
        self.assertEqual(wrong_with_samples(told()["samples"], self.released["samples"]), [])

    def test_executions_that_have_begun_find_what_their_definition_names(self):
        functions = {path.parent.name for path in (ROOT / "functions").glob("*/Cargo.toml")}
        self.assertEqual(wrong_with_steps(functions, errors(read(STEPS)), self.released), [])

    def test_views_that_change_have_another_format_and_are_rebuilt(self):
        before = self.released["golden"][VIEWS]
        self.assertEqual(wrong_with_views(read(VIEWS), before, newest_format(read(FORMAT)), self.released["format"], read("CHANGELOG.md")), [])

    def test_the_last_release_is_one_that_users_have(self):
        self.assertIn(f"\n## {self.released['version']} ", read("CHANGELOG.md"))
        self.assertRegex(self.released["commit"], r"^[0-9a-f]{40}$")


class Spoiled(unittest.TestCase):
    """The checks find what they are there for."""

    LINES = ['{"type":"Told","schema":1,"data":{}}\n', '{"type":"Told","schema":2,"data":{"note":null}}\n']

    def setUp(self):
        self.released = {"lines": 1, "sha256": digest(self.LINES[0])}

    def test_a_line_that_has_changed_or_is_gone(self):
        self.assertEqual(wrong_with_golden("file", "".join(self.LINES), self.released), [])
        for text in (self.LINES[0].replace("{}", '{"a":1}'), "", "".join(reversed(self.LINES))):
            self.assertIn("has changed or is gone", *wrong_with_golden("file", text, self.released))

    def test_a_version_that_is_written_too_early_or_held_back_too_long(self):
        _, lines = split("".join(self.LINES), self.released)
        new = versions(lines)
        self.assertEqual(new, {("Told", 2)})
        self.assertIn('add ("Told", 2) to HELD_BACK', *wrong_with_written(new, set()))
        self.assertEqual(wrong_with_written(new, {("Told", 2)}), [])
        self.assertEqual(wrong_with_written({("Told", 2), ("Told", 3)}, {("Told", 2)}), [])
        self.assertEqual(len(wrong_with_written(new, {("Told", 3)})), 2)
        self.assertIn("take it out of HELD_BACK", *wrong_with_written(set(), {("Told", 2)}))

    def test_the_list_is_read_as_it_is_formatted(self):
        source = 'pub(crate) const HELD_BACK: &[(&str, u32)] = &[%s];'
        self.assertEqual(held_back(source % ""), set())
        self.assertEqual(held_back(source % '("Told", 2)'), {("Told", 2)})
        self.assertEqual(held_back(source % '\n    ("Told", 2),\n    ("Heard", 1),\n'), {("Told", 2), ("Heard", 1)})

    def test_a_word_that_comes_or_goes(self):
        source = "pub enum Kind {\n    /// One.\n    #[default]\n    One,\n    Two {\n        more: u8,\n    },\n}\n"
        self.assertEqual(words(source, "Kind"), {"Kind::One", "Kind::Two"})
        self.assertIn("is gone", *wrong_with_words(set(), ["Kind::One"], set()))
        self.assertIn("add it to ONLY_READ", *wrong_with_words({"Kind::One"}, [], set()))
        self.assertEqual(wrong_with_words({"Kind::One"}, [], {"Kind::One"}), [])
        self.assertIn("take it out", *wrong_with_words({"Kind::One"}, ["Kind::One"], {"Kind::One"}))

    def test_a_sample_that_has_changed(self):
        self.assertEqual(wrong_with_samples({"a.json": "1", "new.json": "2"}, {"a.json": "1", "gone.json": "3"}), [])
        self.assertIn("events/a.json", *wrong_with_samples({"a.json": "2"}, {"a.json": "1"}))

    def test_a_step_or_an_error_that_is_gone(self):
        released = {"steps": ["process-payment"], "errors": ["OutOfStock"]}
        self.assertEqual(wrong_with_steps({"process-payment", "new"}, {"OutOfStock", "New"}, released), [])
        self.assertIn("call process-payment", *wrong_with_steps(set(), {"OutOfStock"}, released))
        self.assertIn("the error OutOfStock", *wrong_with_steps({"process-payment"}, set(), released))

    def test_views_that_change_without_a_rebuild(self):
        def wrong(formats: list[int], now: int, changelog: str = "") -> list[str]:
            text = "".join(f'{{"format":{number}}}\n' for number in formats)
            return wrong_with_views(text, {"lines": 1}, now, 3, f"# Changelog\n\n## Unreleased\n\n{changelog}\n## 0.2.0\n\nmake rebuild VIEW=orders")

        said = "- Run `make rebuild VIEW=orders`.\n"
        self.assertEqual(wrong([3], 3), [])
        self.assertEqual(wrong([3, 4], 4, said), [])
        self.assertIn("CHANGELOG.md", *wrong([3, 4], 4))
        self.assertIn("raise FORMAT", *wrong([3, 3], 3))
        self.assertIn("there has to be a line", *wrong([3], 4, said))
        self.assertIn("format 2 was 3", wrong([3], 2)[1])

    def test_whatever_is_compared_is_found(self):
        self.assertGreater(len(all_words()), 30)
        self.assertGreater(len(own_samples()), 15)
        self.assertIn("process-payment", steps(read("infra/fulfilment.asl.json")))
        self.assertIn("OutOfStock", errors(read(STEPS)))


def pin():
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    if git("status", "--porcelain"):
        sys.exit("error: this is not a released version: some of it is not committed")
    version = re.search(r'^version = "(.+)"$', read("Cargo.toml"), re.M)[1]
    FILE.write_text(json.dumps({"version": version, "commit": git("rev-parse", "HEAD"), **told()}, indent=2) + "\n")
    print(f"{FILE.relative_to(ROOT)} is of {version}. Take out of HELD_BACK and ONLY_READ what it reads now")


if __name__ == "__main__":
    if sys.argv[1:] == ["pin"]:
        pin()
    else:
        unittest.main()

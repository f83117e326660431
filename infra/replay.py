"""Replays an export of the event table with this build, and compares what it makes of every order with what another build has: `make replay`.
Writes an export once more without what it says about people: `make anonymise`.

An export is a folder with any number of files `*.json.gz`, of lines `{"Item": {...}}` in DynamoDB's JSON, and a `manifest.json`. What a build
makes of it (where each order stands, what is shown, what would be decided next, its books) is a file of lines, one a stream, sorted by their
names; the one to compare with is kept beside the export. Nothing here needs AWS, or more memory than one stream takes.
"""
from __future__ import annotations

import argparse
import collections
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra" / "local"))

import stack  # noqa: E402
from stack import fail, say  # noqa: E402

ANSWERS = "answers.jsonl"  # in an export: what is to be compared with
MANIFEST = "manifest.json"
SHOWN = 20  # differences, each with its order; the counts tell of all
WIDTH = 100  # characters that are shown of a value


# ---------------------------------------------------------------- exports


def lines(export: Path) -> Iterator[str]:
    for file in sorted(export.glob("*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as opened:
            yield from opened


def to_be_sorted(export: Path) -> Iterator[str]:
    """Each line behind its stream and version, so that the order of lines is that of commits. An export by AWS has no order at all. A version
    has digits for any number of 64 bits."""
    for line in lines(export):
        try:
            item = json.loads(line)["Item"]
            yield f"{item['stream']['S']}\t{int(item['version']['N']):020}\t{line.strip()}\n"
        except (ValueError, KeyError, TypeError):
            fail(f"{export} has a line that is no item of the event table")


def pipe(given: Iterable[str], commands: list[list], output: Path):
    """Runs the commands, each on what the one before it has written."""
    environment, running = os.environ | {"LC_ALL": "C"}, []
    with output.open("wb") as written:
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            source = running[-1].stdout if running else subprocess.PIPE
            running.append(subprocess.Popen([str(word) for word in command], stdin=source, stdout=written if last else subprocess.PIPE, env=environment))
            if number:
                source.close()  # so that who comes before hears when this one has ended
        try:
            with running[0].stdin as first:
                for line in given:
                    first.write(line.encode())
        except BrokenPipeError:
            pass  # it says itself why it has ended
        except BaseException:
            for process in running:
                process.kill()
            raise
        finally:
            codes = [process.wait() for process in running]
    for command, code in reversed([*zip(commands, codes)]):  # who comes before one that has failed fails of that
        if code:
            fail(f"{Path(str(command[0])).name} ended with {code}, see above")


def program() -> list:
    return [stack.program("replay")]


def read_manifest(export: Path) -> dict:
    if not any(export.glob("*.json.gz")):
        fail(f"{export} has no files *.json.gz, so it is no export")
    try:
        return json.loads((export / MANIFEST).read_text())
    except FileNotFoundError:
        return {}


# ---------------------------------------------------------------- answers


def answer(export: Path, output: Path, replay: list):
    """What this build makes of an export."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as space:
        written = Path(space) / ANSWERS
        pipe(to_be_sorted(export), [["sort", "-S", "256M", "-T", space], ["cut", "-f", "3-"], [*replay, "answers"]], written)
        written.replace(output)


def version() -> str:
    """The commit that is checked out, and whether there is more to it."""
    def git(*call: str) -> str:
        done = subprocess.run(["git", *call], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=stack.MINUTE)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD") or "no-commit"
    return commit + ("-changed" if git("status", "--porcelain", "--untracked-files=no") else "")


# ---------------------------------------------------------------- differences


def fields(value, path: str = "") -> Iterator[tuple[str, object]]:
    """Each value in an answer, with the names that lead to it. The elements of a list have their place among these."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from fields(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from fields(inner, f"{path}[{number}]")
    else:
        yield path, value


def differences(old: dict, new: dict) -> Iterator[tuple[str, object, object]]:
    before, after = dict(fields(old)), dict(fields(new))
    for path in [*before, *(path for path in after if path not in before)]:
        if path not in before or path not in after or before[path] != after[path]:
            yield path, before.get(path, "(nothing)"), after.get(path, "(nothing)")


def pairs(old: Path, new: Path) -> Iterator[tuple[dict | None, dict | None]]:
    """The two answers of each stream; None where there is only one. Both files are sorted by the streams' names."""
    def read(file: Path) -> Iterator[dict]:
        with file.open(encoding="utf-8") as opened:
            for line in opened:
                yield json.loads(line)

    ours, theirs = read(new), read(old)
    one, other = next(theirs, None), next(ours, None)
    while one or other:
        if not other or one and one["stream"] < other["stream"]:
            yield one, None
            one = next(theirs, None)
        elif not one or other["stream"] < one["stream"]:
            yield None, other
            other = next(ours, None)
        else:
            yield one, other
            one, other = next(theirs, None), next(ours, None)


def is_accepted(field: str, accept: list[str]) -> bool:
    """`view` accepts all of the view, `view.payment.status` only that."""
    return any(re.match(rf"{re.escape(name)}(?![\w-])", field) for name in accept)


def compare(old: Path, new: Path, accept: list[str]) -> int:
    """Shows what is another than it was, and answers how many of the differences nobody has accepted."""
    streams, different, unreadable, not_accepted, shown = 0, 0, 0, 0, 0
    counts = collections.Counter()
    for one, other in pairs(old, new):
        streams += 1
        unreadable += "error" in (other or {})
        if one and other:
            found = list(differences(one, other))
        else:
            found = [("stream", "there" if one else "not there", "there" if other else "not there")]
        different += bool(found)
        for path, was, now in found:
            field = re.sub(r"\[\d+\]", "[]", path)
            counts[field] += 1
            if is_accepted(field, accept):
                continue
            not_accepted += 1
            if shown < SHOWN:
                shown += 1
                print(f"{(one or other)['stream']} {path}: {short(was)} -> {short(now)}")
    if not_accepted > shown:
        print(f"... and {not_accepted - shown:,} more")
    for field, count in counts.most_common():
        print(f"{count:>8,}  {field}{'  (accepted)' if is_accepted(field, accept) else ''}")
    print(f"{streams:,} streams, {different:,} of them with differences; {unreadable:,} that this build cannot read")
    return not_accepted


def short(value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDTH else text[:WIDTH] + "..."


# ---------------------------------------------------------------- what is asked for


def answers_now(export: Path, using: list | None = None) -> Path:
    if not read_manifest(export).get("anonymised"):
        fail(f"{export} says who has ordered what: `make anonymise FROM={export} TO=<folder>` first")
    say(f"Replaying {export}")
    answers = ROOT / ".local" / "replay" / f"{version()}.jsonl"
    answer(export, answers, using or program())
    print(f"What this build makes of it is in {answers}")
    return answers


def check(export: Path, against: Path | None, accept: list[str], using: list | None = None) -> Path:
    """Ends this script unless this build makes of an export what another has. Answers where that is written."""
    old = against or export / ANSWERS
    if not old.is_file():
        fail(f"there is no {old} to compare with: check out what is deployed and run `make replay FROM={export} RECORD=1` there")
    new = answers_now(export, using)
    if compare(old, new, accept):
        fail("this build makes something else of these streams; ACCEPT=<field,...> accepts what is meant to be")
    return new


def record(export: Path, answers: Path):
    shutil.copyfile(answers, export / ANSWERS)
    print(f"Later builds are compared with {export / ANSWERS}")


def anonymise(export: Path, to: Path, using: list | None = None):
    manifest = read_manifest(export)
    if to.exists() and any(to.iterdir()):
        fail(f"{to} is not empty")
    to.mkdir(parents=True, exist_ok=True)
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for line in lines(export):
            count += 1
            yield line

    pipe(counted(), [[*(using or program()), "anonymise"], ["gzip"]], to / "items.json.gz")
    (to / MANIFEST).write_text(json.dumps(manifest | {"anonymised": True, "items": count}, indent=2) + "\n")
    print(f"{count:,} items are in {to}, and nothing of anybody")


def accepted(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main():
    parser = argparse.ArgumentParser(description="Replays an export of the event table")
    commands = parser.add_subparsers(dest="command", required=True)
    added = commands.add_parser("replay")
    added.add_argument("export", type=Path)
    added.add_argument("--against", type=Path, help="what another build made of it; unless given, answers.jsonl in the export")
    added.add_argument("--accept", type=accepted, default=[], metavar="FIELD,...", help="what may be another than it was")
    added.add_argument("--record", action="store_true", help="have later builds compared with this one")
    added = commands.add_parser("anonymise")
    added.add_argument("export", type=Path)
    added.add_argument("to", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "anonymise":
        anonymise(arguments.export, arguments.to)
    elif arguments.record:
        record(arguments.export, answers_now(arguments.export))
    else:
        check(arguments.export, arguments.against, arguments.accept)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

"""Rebuilds a read model from the event table, of the local stack or of one on AWS: `make rebuild VIEW=orders [STAGE=dev]`.

The work is done by the stack's state machine rebuild-<view>, which calls the function of that name; this script says what it will cost, starts it, looks on,
and tells what the new generation has otherwise than the one before. Whatever is interrupted goes on where it was when the script is run again. Needs botocore.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
import uuid

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from tools import Function, Refused, show, show_now_and_then

VIEWS = ["orders"]

# On-demand prices of DynamoDB in us-east-1 (https://aws.amazon.com/dynamodb/pricing/on-demand/), US dollars per million units.
READ_PRICE, WRITE_PRICE = 0.125, 0.625

# Of Lambda, US dollars for an hour of one segment: a function of 256 MB on Arm (https://aws.amazon.com/lambda/pricing/).
LAMBDA_HOUR_PRICE = 0.012

# Units that a commit takes in the new generation, when an order has five or six of them: measured by `make bench`. Their comparison takes two views and two lists of
# each order. Items of the old generation there are as many for each commit as this, where DynamoDB has not counted them yet.
READS_PER_COMMIT, WRITES_PER_COMMIT, COMPARES_PER_COMMIT, ITEMS_PER_COMMIT = 0.5, 2.6, 0.8, 2.0

# What a comparison counts, and how that is told; the first two are never meant.
LOST = {"missing": "orders are missing", "behind": "orders lack events"}
OTHERWISE = LOST | {"changed": "orders look otherwise", "added": "orders are new", "profiles": "customers have another profile",
                    "lists": "customers' lists have another length (on each page of orders)", "hours": "hours have other sums"}
SAMPLE = 10  # streams that are named
LOOKS_EVERY = 2  # seconds


class Rebuild:
    def __init__(self, stack: str, view: str):
        name, session = f"{stack}-rebuild-{view}", botocore.session.get_session()
        self.function = Function(name, timeout=90)
        self.machines = session.create_client("stepfunctions")
        region, account = self.machines.meta.region_name, session.create_client("sts").get_caller_identity()["Account"]
        self.machine = f"arn:{session.get_partition_for_region(region)}:states:{region}:{account}:stateMachine:{name}"

    def ask(self, action: str, **more) -> dict:
        return self.function.ask_again({"action": action, **more})

    def under_way(self) -> str | None:
        """The execution that is at work."""
        running = self.machines.list_executions(stateMachineArn=self.machine, statusFilter="RUNNING", maxResults=1)["executions"]
        return running[0]["executionArn"] if running else None

    def start(self, **given) -> str:
        name = f"{'clear' if given.get('clear') else 'rebuild'}-{uuid.uuid4()}"
        return self.machines.start_execution(stateMachineArn=self.machine, name=name, input=json.dumps(given))["executionArn"]

    def look(self, execution: str) -> dict:
        return self.machines.describe_execution(executionArn=execution)


def seconds(count: float) -> str:
    return f"{int(count) // 60}:{int(count) % 60:02}"


def price(standing: dict) -> list[str]:
    """What each part of a rebuild will take, and all of it. Orders that come meanwhile are written twice."""
    events, views = standing["bytes"] / 4096, standing["view_bytes"] / 4096  # read units: 4 KB each
    commits = standing["commits"]
    items = standing["view_items"] or commits * ITEMS_PER_COMMIT
    parts = {
        "building": (events + commits * READS_PER_COMMIT, commits * WRITES_PER_COMMIT),
        "comparing": (events + commits * COMPARES_PER_COMMIT, 0),
        # Both generations are looked through for what belongs to the old one, which is deleted item by item.
        "clearing": (2 * views, items),
    }
    parts["in all"] = tuple(map(sum, zip(*parts.values())))
    told = [f"  {what:<10}{reads:>14,.0f} read units{writes:>14,.0f} write units   ${(reads * READ_PRICE + writes * WRITE_PRICE) / 1e6:,.4f}"
            for what, (reads, writes) in parts.items()]
    return [*told, f"  and ${LAMBDA_HOUR_PRICE} of Lambda for each hour of each segment"]


def progress(standing: dict, since: float, before: int) -> str:
    parts = standing["segments"]
    events, reads = sum(part["events"] for part in parts), sum(part["read_units"] for part in parts)
    done, total = sum(part["done"] for part in parts), max(standing["commits"], 1)
    rate = (events - before) / max(time.monotonic() - since, 0.001)
    share = 1 if done == len(parts) else min(events / total, 0.99)
    left = f", {seconds((total - events) / rate)} left" if rate and total > events else ""
    bar = ("#" * int(share * 30)).ljust(30, ".")
    return f"[{bar}] {events:,} events, {rate:,.0f}/s{left}, {reads:,.0f} read units, {done} of {len(parts)} segments"


def left(done: int, total: int, since: float) -> str:
    """How long the rest takes, if it goes on like this."""
    return f", {seconds((total - done) * (time.monotonic() - since) / done)} left" if 0 < done < total else ""


class Onlooker:
    """Says where a rebuild is."""

    def __init__(self):
        self.since, self.before, self.phase = time.monotonic(), 0, None

    def say(self, standing: dict) -> str:
        segments, comparisons = standing["segments"], standing["comparisons"]
        is_built = all(part["done"] for part in segments)
        events = sum(part["events"] for part in segments)
        phase = standing["building"], is_built, standing["outgoing"], standing["clearing"]
        if phase != self.phase:
            self.since, self.before, self.phase = time.monotonic(), events, phase
        waits = f": {seconds(standing['wait_seconds'])}" if standing["wait_seconds"] > 1 else ""
        if standing["building"] and is_built:
            orders = sum(one["differences"]["orders"] for one in comparisons)
            # Some more than there are: a stream counts on each page on which it is.
            return f"Comparing: {orders:,} orders{left(orders, sum(part['streams'] for part in segments), self.since)}"
        if standing["building"] and not events and waits:
            return f"Waiting until every projection knows of generation {standing['building']}{waits}"
        if standing["building"]:
            return progress(standing, self.since, self.before)
        if standing["outgoing"]:
            return f"Waiting until nobody reads generation {standing['outgoing']} any more{waits}"
        return f"Clearing generation {standing['clearing']}{waits}" if standing["clearing"] else "Done"


def watch(rebuild: Rebuild, execution: str) -> dict:
    """Looks on until an execution has ended, and answers how."""
    onlooker = Onlooker()
    try:
        while (looked := rebuild.look(execution))["status"] == "RUNNING":
            show_now_and_then(onlooker.say(rebuild.ask("status")))
            time.sleep(LOOKS_EVERY)
    except KeyboardInterrupt:
        show("It goes on without this script: run it again to look on, or with ABANDON=1 to give it up")
        raise
    return looked


def differences(standing: dict) -> dict:
    found = {name: 0 for name in ["orders", *OTHERWISE]} | {"fields": {}, "sample": []}
    for comparison in standing["comparisons"]:
        add(found, comparison["differences"])
    return found


def add(found: dict, more: dict):
    for name, count in more.items():
        if name == "fields":
            for field, of in count.items():
                found[name][field] = found[name].get(field, 0) + of
        elif name == "sample":
            found[name] = [*dict.fromkeys(found[name] + count)][:SAMPLE]
        else:
            found[name] += count


def tell(found: dict):
    show(f"{found['orders']:,} orders of the new generation were compared with those of the one before")
    differ = {name: words for name, words in OTHERWISE.items() if found[name]}
    for name, words in differ.items():
        fields = ", ".join(f"{field} {count:,}" for field, count in sorted(found["fields"].items()))
        show(f"  {found[name]:,} {words}{f' ({fields})' if name == 'changed' else ''}")
    if found["sample"]:
        show(f"  for example {', '.join(found['sample'])}")
    if not differ:
        show("  nothing is otherwise")


def run(rebuild: Rebuild, segments: int, units: int | None, abandon: bool = False, check: bool = False, accept: bool = False) -> int:
    """Answers how this script is to end."""
    execution, standing = rebuild.under_way(), rebuild.ask("status")
    clear_units = max(units, 1) if units else None  # all of them: nothing else of a rebuild is at work by then
    if abandon and standing["building"]:
        standing = rebuild.ask("abandon")
        show(f"Generation {standing['clearing']} is given up")
        if execution:
            watch(rebuild, execution)  # it finds that out by itself
            execution = None
    if not execution and (rest := standing["outgoing"] or standing["clearing"]):
        ended = watch(rebuild, rebuild.start(clear=True, clear_units=clear_units))
        # A higher number than that of what is read is of one that was given up.
        if abandon or ended["status"] != "SUCCEEDED" or rest < standing["live"]:
            return end(rebuild, ended)
    if abandon:
        return 0
    if execution:
        show("A rebuild is under way; looking on")
    else:
        if not standing["building"]:
            show(f"To read, as DynamoDB counted within the last six hours: {standing['commits']:,} commits, {standing['bytes'] / 1e6:,.1f} MB")
            show("\n".join(["That will take, about:", *price(standing)]))
            standing = rebuild.ask("begin", segments=segments)
            show(f"Building generation {standing['building']}; generation {standing['live']} is read meanwhile")
        else:
            show(f"Going on with generation {standing['building']}")
        if check:
            rebuild.ask("forget")  # what was compared is to be compared as it is now
        count = len(standing["segments"])
        pace = max(units // count, 1) if units else None
        execution = rebuild.start(segments=list(range(count)), units=pace, clear_units=clear_units, check=check, accept=accept)
    ended = watch(rebuild, execution)
    standing = rebuild.ask("status")
    found = differences(standing)
    tell(found)
    if standing["unreadable"]:
        show(f"{standing['unreadable']:,} streams could not be read to their end (counted on each page on which that stands in the way), and what comes there is missing: "
             f"{', '.join(standing['unreadable_sample'][:SAMPLE])}")
    if standing["uncounted"]:
        show(f"{standing['uncounted']} pages were cut short, and what was in them may not be counted by the hour (/api/v1/stats). All else is as it should be; "
             "another rebuild counts anew")
    return end(rebuild, ended) or int(check and any(found[name] for name in OTHERWISE))


def cause(ended: dict) -> str:
    """What the function has said, if it was that."""
    text = ended.get("cause", "it was stopped")
    try:
        return json.loads(text)["errorMessage"]
    except (ValueError, KeyError, TypeError):
        return text


def end(rebuild: Rebuild, ended: dict) -> int:
    standing = rebuild.ask("status")
    if ended["status"] != "SUCCEEDED":
        show(f"error: {ended.get('error', ended['status'])}: {cause(ended)}")
        if ended.get("error") == "Lost":
            show("Not switched. Find out what was not taken in; then compare again (CHECK=1), give it up (ABANDON=1), or switch all the same (ACCEPT=1)")
        return 1
    if standing["building"]:
        show(f"Generation {standing['building']} is not read yet: run it again without CHECK to switch, or with ABANDON=1 to give it up")
    else:
        show(f"Generation {standing['live']} is read, and no other is left")
    return 0


def main():
    parser = argparse.ArgumentParser(description="Rebuilds a read model from the event table")
    parser.add_argument("view", choices=VIEWS)
    parser.add_argument("--stack", required=True, help="name of the CloudFormation stack")
    parser.add_argument("--segments", type=int, default=4, help="how many parts of the event table are read at the same time")
    parser.add_argument("--units", type=int, help="how many units a second building, comparing and clearing may each take, about; as many as there are unless given")
    parser.add_argument("--abandon", action="store_true", help="give up a rebuild that is under way")
    parser.add_argument("--check", action="store_true", help="stop before the switch, with 1 if anything differs")
    parser.add_argument("--accept", action="store_true", help="switch also when orders or events are missing")
    arguments = parser.parse_args()
    try:
        rebuild = Rebuild(arguments.stack, arguments.view)
        sys.exit(run(rebuild, arguments.segments, arguments.units, arguments.abandon, arguments.check, arguments.accept))
    except (Refused, ClientError, BotoCoreError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

"""Rebuilds a read model from the event table, of the local stack or of one on AWS: `make rebuild VIEW=orders [STAGE=dev]`.

The work is done by the stack's function rebuild-<view>, segment by segment; this script only asks it to go on, and shows
how far it is, and what the new generation has otherwise before it is read. Whatever is interrupted goes on where it was when the script is run again. Needs botocore.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import sys
import threading
import time

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
LOST = {"missing": "orders are only in generation {live}", "behind": "orders have fewer events in generation {building}"}
OTHERWISE = LOST | {"changed": "orders look otherwise", "added": "orders are only in generation {building}", "profiles": "customers have another profile",
                    "lists": "customers' lists have another length (on each page of orders)", "hours": "hours have other sums"}
SAMPLE = 10  # streams that are named


class Rebuild:
    def __init__(self, stack: str, view: str):
        # A slice of work takes ten seconds and more.
        self.function = Function(f"{stack}-rebuild-{view}", timeout=90)

    def ask_again(self, action: str, **more) -> dict:
        return self.function.ask_again({"action": action, **more})

    def ask(self, action: str, **more) -> dict:
        return self.function.ask({"action": action, **more})


def seconds(count: float) -> str:
    return f"{int(count) // 60}:{int(count) % 60:02}"


def wait(standing: dict, why: str):
    until = time.monotonic() + standing["wait_seconds"]
    if sys.stdout.isatty():
        while time.monotonic() < until:
            show(f"{why}: {seconds(until - time.monotonic())}", end="")
            time.sleep(0.5)
        show(why)
    elif standing["wait_seconds"]:
        show(f"{why}: {standing['wait_seconds']} s")
        time.sleep(max(0, until - time.monotonic()))


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


def clear(rebuild: Rebuild, standing: dict):
    if standing["outgoing"]:
        wait(standing, f"Waiting until nobody reads generation {standing['outgoing']} any more")
        standing = rebuild.ask_again("retire")
    if standing["clearing"]:
        wait(standing, f"Waiting until nobody writes generation {standing['clearing']} any more")
        after, cleared, since = None, 0, time.monotonic()
        # Another generation, about as large, is there beside it.
        total = standing["view_items"] // 2
        while standing["clearing"]:
            standing = rebuild.ask_again("clear", after=after)
            cleared, after = cleared + standing["cleared"], standing["clear_after"]
            show_now_and_then(f"Clearing the old generation: {cleared:,} items{left(cleared, total, since)}")
        show(f"The old generation is cleared: {cleared:,} items")


def in_segments(rebuild: Rebuild, standing: dict, work):
    """Has `work(number, stopped)` done for each segment, all at the same time, and each stopped when another has failed."""
    stopped, count = threading.Event(), len(standing["segments"])
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        try:
            for result in concurrent.futures.as_completed([pool.submit(work, number, stopped) for number in range(count)]):
                result.result()
        except BaseException:
            stopped.set()
            show("Stopping after the slice at hand; run it again to go on")
            raise


def of_each(standing: dict, units: int | None) -> int | None:
    """How many units a second one segment may take."""
    return max(units // len(standing["segments"]), 1) if units else None


def build(rebuild: Rebuild, standing: dict, units: int | None):
    wait(standing, f"Waiting until every projection knows of generation {standing['building']}")
    standing = rebuild.ask("status")
    since, before = time.monotonic(), sum(part["events"] for part in standing["segments"])

    def work(number: int, stopped: threading.Event):
        part = standing["segments"][number]
        while not part["done"] and not stopped.is_set():
            latest = rebuild.ask_again("work", segment=number, units_per_second=of_each(standing, units))
            part = latest["segments"][number]
            show_now_and_then(progress(latest, since, before))

    in_segments(rebuild, standing, work)
    standing = rebuild.ask("status")
    show(progress(standing, since, before))
    if uncounted := sum(part["uncounted"] for part in standing["segments"]):
        show(f"{uncounted} pages were cut short, and what was in them may not be counted by the hour (/api/v1/stats). All else is as it should be; "
             "another rebuild counts anew")


def compare(rebuild: Rebuild, standing: dict, units: int | None) -> dict:
    """What the new generation has otherwise than the one that is read. It is not kept how far that is, because it changes nothing."""
    found, since, one_at_a_time = rebuild.ask_again("compare_hours")["differences"], time.monotonic(), threading.Lock()
    streams = sum(part["streams"] for part in standing["segments"])  # some more than there are

    def work(number: int, stopped: threading.Event):
        after, first = None, True
        while (first or after) and not stopped.is_set():
            latest = rebuild.ask_again("compare", segment=number, after=after, units_per_second=of_each(standing, units))
            after, first = latest["compare_after"], False
            with one_at_a_time:
                add(found, latest["differences"])
                show_now_and_then(f"Comparing: {found['orders']:,} orders{left(found['orders'], streams, since)}")

    in_segments(rebuild, standing, work)
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


def tell(found: dict, standing: dict):
    show(f"{found['orders']:,} orders were compared with those of generation {standing['live']}")
    differ = {name: words for name, words in OTHERWISE.items() if found[name]}
    for name, words in differ.items():
        fields = ", ".join(f"{field} {count:,}" for field, count in sorted(found["fields"].items()))
        show(f"  {found[name]:,} {words.format(**standing)}{f' ({fields})' if name == 'changed' else ''}")
    if found["sample"]:
        show(f"  for example {', '.join(found['sample'])}")
    if not differ:
        show("  nothing is otherwise")


def run(rebuild: Rebuild, segments: int, units: int | None, abandon: bool = False, check: bool = False, accept: bool = False) -> int:
    """Answers how this script is to end."""
    standing = rebuild.ask("status")
    if abandon:
        if standing["building"]:
            standing = rebuild.ask("abandon")
            show(f"Generation {standing['clearing']} is given up")
        clear(rebuild, standing)
        return 0
    if rest := standing["outgoing"] or standing["clearing"]:
        clear(rebuild, standing)
        if rest < standing["live"]:  # the rest of a rebuild that has switched; a higher number is of one that was given up
            return 0
    if not standing["building"]:
        show(f"To read, as DynamoDB counted within the last six hours: {standing['commits']:,} commits, {standing['bytes'] / 1e6:,.1f} MB")
        show("\n".join(["That will take, about:", *price(standing)]))
        standing = rebuild.ask("begin", segments=segments)
        show(f"Building generation {standing['building']}; generation {standing['live']} is read meanwhile")
    else:
        show(f"Going on with generation {standing['building']}")
    build(rebuild, standing, units)
    standing = rebuild.ask("status")
    found = compare(rebuild, standing, units)
    tell(found, standing)
    if check:
        show(f"Generation {standing['building']} is not read yet: run it again without CHECK to switch, or with ABANDON=1 to give it up")
        return 1 if any(found[name] for name in OTHERWISE) else 0
    if any(found[name] for name in LOST) and not accept:
        show("Not switched, because events are lost: find out why, and give this generation up (ABANDON=1), or switch all the same (ACCEPT=1)")
        return 1
    standing = rebuild.ask("switch")
    show(f"Generation {standing['live']} is read from now on")
    clear(rebuild, standing)
    return 0


def main():
    parser = argparse.ArgumentParser(description="Rebuilds a read model from the event table")
    parser.add_argument("view", choices=VIEWS)
    parser.add_argument("--stack", required=True, help="name of the CloudFormation stack")
    parser.add_argument("--segments", type=int, default=4, help="how many parts of the event table are read at the same time")
    parser.add_argument("--units", type=int, help="how many write units a second it may take, about; as many as there are unless given")
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

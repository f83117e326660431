"""Rebuilds a read model from the event table, of the local stack or of one on AWS: `make rebuild VIEW=orders [STAGE=dev]`.

The work is done by the stack's function rebuild-<view>, segment by segment; this script only asks it to go on, and shows
how far it is. Whatever is interrupted goes on where it was when the script is run again. Needs botocore.
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

# Units that a commit takes in the new generation, when an order has five or six of them: measured by `make bench`. And as many
# items as there are for each commit in the old one have to be deleted, a write unit each.
READS_PER_COMMIT, WRITES_PER_COMMIT, DELETES_PER_COMMIT = 0.5, 2.6, 2.0


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


def price(standing: dict) -> str:
    # The events themselves are read at 4 KB a unit; what is looked at beside them, order by order, is more.
    reads = standing["bytes"] / 4096 + standing["commits"] * READS_PER_COMMIT
    writes = standing["commits"] * (WRITES_PER_COMMIT + DELETES_PER_COMMIT)
    dollars = (reads * READ_PRICE + writes * WRITE_PRICE) / 1e6
    return f"about {reads:,.0f} read units and {writes:,.0f} write units, the deletion of the old among them, ${dollars:,.4f}"


def progress(standing: dict, since: float, before: int) -> str:
    parts = standing["segments"]
    events, reads = sum(part["events"] for part in parts), sum(part["read_units"] for part in parts)
    done, total = sum(part["done"] for part in parts), max(standing["commits"], 1)
    rate = (events - before) / max(time.monotonic() - since, 0.001)
    share = 1 if done == len(parts) else min(events / total, 0.99)
    left = f", {seconds((total - events) / rate)} left" if rate and total > events else ""
    bar = ("#" * int(share * 30)).ljust(30, ".")
    return f"[{bar}] {events:,} events, {rate:,.0f}/s{left}, {reads:,.0f} read units, {done} of {len(parts)} segments"


def clear(rebuild: Rebuild, standing: dict):
    if standing["outgoing"]:
        wait(standing, f"Waiting until nobody reads generation {standing['outgoing']} any more")
        standing = rebuild.ask_again("retire")
    if standing["clearing"]:
        wait(standing, f"Waiting until nobody writes generation {standing['clearing']} any more")
        after, cleared = None, 0
        while standing["clearing"]:
            standing = rebuild.ask_again("clear", after=after)
            cleared, after = cleared + standing["cleared"], standing["clear_after"]
            show_now_and_then(f"Clearing the old generation: {cleared:,} items")
        show(f"The old generation is cleared: {cleared:,} items")


def build(rebuild: Rebuild, standing: dict, units: int | None):
    wait(standing, f"Waiting until every projection knows of generation {standing['building']}")
    standing = rebuild.ask("status")
    since, before = time.monotonic(), sum(part["events"] for part in standing["segments"])
    stopped, latest = threading.Event(), standing
    pace = max(units // len(standing["segments"]), 1) if units else None

    def work(number: int):
        nonlocal latest
        part = standing["segments"][number]
        while not part["done"] and not stopped.is_set():
            latest = rebuild.ask_again("work", segment=number, units_per_second=pace)
            part = latest["segments"][number]
            show_now_and_then(progress(latest, since, before))

    with concurrent.futures.ThreadPoolExecutor(len(standing["segments"])) as pool:
        try:
            for result in concurrent.futures.as_completed([pool.submit(work, n) for n in range(len(standing["segments"]))]):
                result.result()
        except BaseException:
            stopped.set()
            show("Stopping after the slice at hand; run it again to go on")
            raise
    standing = rebuild.ask("status")
    show(progress(standing, since, before))
    if uncounted := sum(part["uncounted"] for part in standing["segments"]):
        show(f"{uncounted} pages were cut short, and what was in them may not be counted by the hour (/api/v1/stats). All else is as it should be; "
             "another rebuild counts anew")


def run(rebuild: Rebuild, segments: int, units: int | None, abandon: bool):
    standing = rebuild.ask("status")
    if abandon:
        if standing["building"]:
            standing = rebuild.ask("abandon")
            show(f"Generation {standing['clearing']} is given up")
        clear(rebuild, standing)
        return
    if left := standing["outgoing"] or standing["clearing"]:
        clear(rebuild, standing)
        if left < standing["live"]:  # the rest of a rebuild that has switched; a higher number is of one that was given up
            return
    if not standing["building"]:
        show(f"To read, as DynamoDB counted within the last six hours: {standing['commits']:,} commits, {standing['bytes'] / 1e6:,.1f} MB; {price(standing)}")
        standing = rebuild.ask("begin", segments=segments)
        show(f"Building generation {standing['building']}; generation {standing['live']} is read meanwhile")
    else:
        show(f"Going on with generation {standing['building']}")
    build(rebuild, standing, units)
    standing = rebuild.ask("switch")
    show(f"Generation {standing['live']} is read from now on")
    clear(rebuild, standing)


def main():
    parser = argparse.ArgumentParser(description="Rebuilds a read model from the event table")
    parser.add_argument("view", choices=VIEWS)
    parser.add_argument("--stack", required=True, help="name of the CloudFormation stack")
    parser.add_argument("--segments", type=int, default=4, help="how many parts of the event table are read at the same time")
    parser.add_argument("--units", type=int, help="how many write units a second it may take, about; as many as there are unless given")
    parser.add_argument("--abandon", action="store_true", help="give up a rebuild that is under way")
    arguments = parser.parse_args()
    try:
        run(Rebuild(arguments.stack, arguments.view), arguments.segments, arguments.units, arguments.abandon)
    except (Refused, ClientError, BotoCoreError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

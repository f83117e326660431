"""Gives events that were lost on their way once more, from the event table: `make republish` puts them on the bus,
`make reproject` into the views. And has orders' books compared with their providers' though no event leaves them in doubt: `make doubt`.

The work is done by the stack's functions republish-events, reproject-events and compare-books, one order after the other. Everything
here may be done again, as often as wanted: consumers know an event by its id, and views by its number.
"""
from __future__ import annotations

import argparse
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tools import Function, Refused, show, show_now_and_then

# So many orders in a row that fail are the system's failure, and not the orders'.
FAILURES_IN_A_ROW = 5


def republish(function: Function, whose: dict, after: int) -> Iterator[int]:
    """Part after part of a long stream, with the number of events in it."""
    while after is not None:
        part = function.ask_again(whose | {"after": after})
        yield part["events"]
        after = part["next_after"]


def reproject(function: Function, whose: dict, _: int) -> Iterator[int]:
    yield function.ask_again(whose)["orders"]


def doubt(function: Function, whose: dict, _: int) -> Iterator[int]:
    """Also of an order to which something has just happened: after a restore, that may have been put right long since."""
    found = function.ask_again(whose | {"doubted": True, "patience_seconds": 0})
    if not found["agreed"] + found["flagged"]:
        show(f"{whose['order_id']}: not compared, because it is gone, under way, or flagged before")
    yield found["flagged"]


# With the function that does it, for how many seconds it is waited, and what is counted.
DEEDS = {
    "republish": (republish, "republish-events", 330, "events published"),
    "reproject": (reproject, "reproject-events", 330, "orders projected"),
    "doubt": (doubt, "compare-books", 930, "orders flagged"),
}


def run(arguments: argparse.Namespace) -> int:
    """Goes on after one that fails, and says which that was."""
    deed, called, timeout, what = DEEDS[arguments.deed]
    function = Function(f"{arguments.stack}-{called}", timeout=timeout)
    wanted = whose(arguments)
    done, failed, in_a_row, count = 0, 0, 0, 0
    try:
        for one in wanted:
            name, since = next(iter(one.values())), time.monotonic()
            try:
                for part in deed(function, one, arguments.after):
                    count += part
                    show_now_and_then(f"{done + failed} of {len(wanted)}; {what}: {count}")
                done, in_a_row = done + 1, 0
            except (Refused, ClientError, BotoCoreError) as error:
                show(f"{name}: {error}")
                failed, in_a_row = failed + 1, in_a_row + 1
                if in_a_row == FAILURES_IN_A_ROW:
                    show(f"Stopped after {name}, because so many in a row have failed")
                    break
            time.sleep(max(0.0, 1 / arguments.pace - (time.monotonic() - since)))
    except KeyboardInterrupt:
        show(f"Stopped at {name}")
    show(f"{done} of {len(wanted)} done, {failed} failed; {what}: {count}")
    return 0 if done == len(wanted) else 1


def whose(arguments: argparse.Namespace) -> list[dict]:
    """As the functions are told: an order, a customer, or order after order, each once."""
    if arguments.customer:
        return [{"customer_id": arguments.customer}]
    if arguments.order:
        return [{"order_id": order_id(arguments.order)}]
    text = sys.stdin.read() if arguments.orders == "-" else Path(arguments.orders).read_text()
    ids = dict.fromkeys(order_id(line) for line in text.split())
    if not 0 < len(ids) <= arguments.limit:
        raise ValueError(f"{len(ids)} orders are named; 1 to {arguments.limit} may be, or LIMIT=<how many>")
    return [{"order_id": id} for id in ids]


def order_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ValueError(f"{text!r} is no order's id, so nothing was done") from None


def main():
    parser = argparse.ArgumentParser(description="Gives events that were lost on their way once more, or has books compared")
    parser.add_argument("deed", choices=DEEDS)
    parser.add_argument("--stack", required=True, help="name of the CloudFormation stack")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--order", help="an order's id")
    group.add_argument("--customer", help="a customer's id: the events of the profile, or the views; not to doubt")
    group.add_argument("--orders", help="a file with orders' ids, one a line; - for standard input")
    parser.add_argument("--after", type=int, default=0, help="publish only events that come after this number")
    parser.add_argument("--pace", type=float, default=5, help="how many orders a second at most")
    parser.add_argument("--limit", type=int, default=1000, help="how many orders at most")
    arguments = parser.parse_args()
    try:
        if arguments.pace <= 0 or arguments.after < 0:
            raise ValueError("PACE must be above 0, and AFTER not below")
        if arguments.customer and arguments.deed == "doubt":
            raise ValueError("a customer has no books: doubt orders")
        sys.exit(run(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""Counts what the functions ask of AWS, in the units that AWS charges for. emulator.py puts it between the emulator's services.

It counts while the file `meter.jsonl` lies in the stack's folder, and appends a line to it for each call of a function and for
each invocation of one; infra/cost/measure.py makes the file, reads it, and takes it away. It stands behind the check of signatures and
policies, so what is measured is what runs otherwise, and nothing is deployed for it.

What a write costs, in tables and their indexes, the emulator says itself when it is asked by `ReturnConsumedCapacity`; for reads it
always says one unit or a half, and nothing for what has failed, so these follow DynamoDB's rules here. tests/cost_suite.py
holds both to figures that were worked out by hand.
"""
from __future__ import annotations

import json
import threading
from pathlib import Path

from ministack import app
from ministack.core.iam_evaluator import caller_arn
from ministack.services import cloudwatch_logs, dynamodb, eventbridge, lambda_svc

ITEM_OVERHEAD = 100  # bytes that storage is charged for with each item, and with each entry of an index
APART = ('"CacheHits"', '"CacheMisses"', '"MemoryUsed"')  # figures that each warm process tells once in five seconds, whatever it does
EVENT_CHUNK = 64 * 1024  # bytes of an event or a message that are one request

PLATFORM = ("START RequestId: ", "END RequestId: ", "REPORT RequestId: ")  # lines that Lambda writes itself, in another form on AWS

lines = threading.Lock()
written = threading.local()  # sizes of the lines that the invocation of this thread has put into the log group
read_bytes: list[int] = []  # sizes of the items that the query or scan under way has looked at
stored_bytes: dict[str, int] = {}  # how much the tables have grown by the call under way


def install(file: Path):
    """From now on, everything is counted whenever there is this file."""

    def note(line: dict):
        with lines, file.open("a") as out:
            out.write(json.dumps(line) + "\n")

    for service, handler in list(app.SERVICE_HANDLERS.items()):
        app.SERVICE_HANDLERS[service] = metered(service, handler, file, note)
    dynamodb._paginate_evaluated_items = looking(dynamodb._paginate_evaluated_items)
    dynamodb._set_item = storing(dynamodb._set_item)
    dynamodb._remove_item = storing(dynamodb._remove_item)
    lambda_svc._execute_function_dispatch = invoking(lambda_svc._execute_function_dispatch, file, note)
    cloudwatch_logs._append_log_events = logging(cloudwatch_logs._append_log_events)
    eventbridge._dispatch_to_sqs = sending(eventbridge._dispatch_to_sqs, file, note)


def metered(service: str, handler, file: Path, note):
    async def counted(method, path, headers, body, query):
        function = caller_arn().rpartition("/")[2] if ":assumed-role/" in caller_arn() else None
        if not function or not file.exists():  # what scripts and tests ask as the account's root is no order's
            return await handler(method, path, headers, body, query)
        operation = headers.get("x-amz-target", f"{method} {path}").rpartition(".")[2]
        line = {"what": "call", "service": service, "operation": operation, "function": function}
        if service == "dynamodb":
            answer = await item_call(operation, handler, (method, path, headers, body, query), line)
        else:
            answer = await handler(method, path, headers, body, query)
        if service == "events" and operation == "PutEvents":
            entries = json.loads(body)["Entries"]
            line["events"] = sum(chunks(sum(len(entry.get(name, "").encode()) for name in ("Source", "DetailType", "Detail"))) for entry in entries)
        note(line | {"status": answer[0]})
        return answer

    return counted


def chunks(size: int) -> int:
    return max(1, -(-size // EVENT_CHUNK))


# ---------------------------------------------------------------- DynamoDB


async def item_call(operation: str, handler, request: tuple, line: dict) -> tuple:
    method, path, headers, body, query = request
    data = json.loads(body)
    failing = writes_if_refused(operation, data)  # before it runs: it depends on what is there now
    reads = reads_by_key(operation, data)
    writes = operation in ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems")
    if writes:
        body = json.dumps(data | {"ReturnConsumedCapacity": "INDEXES"}).encode()
    read_bytes.clear()
    stored_bytes.clear()
    answer = await handler(method, path, headers, body, query)  # in one go: nothing else runs in between
    if answer[0] != 200:
        reads = {}
        line["write_units"] = failing if writes else {}
    elif writes:
        capacity = json.loads(answer[2]).get("ConsumedCapacity", [])
        capacity = capacity if isinstance(capacity, list) else [capacity]
        line["write_units"] = {entry["TableName"]: entry["CapacityUnits"] for entry in capacity}
    elif operation in ("Query", "Scan"):
        reads = {data["TableName"]: read_units(sum(read_bytes), data.get("ConsistentRead"))}
    if reads:
        line["read_units"] = reads
    if operation == "GetItem":
        line["key"] = data["Key"]
    if stored_bytes:
        line["stored_bytes"] = dict(stored_bytes)
    return answer


def read_units(size: int, consistent: bool) -> float:
    return max(1, -(-size // 4096)) * (1 if consistent else 0.5)


def item_of(table: str, key: dict) -> dict:
    return dynamodb._get_item_by_key(dynamodb._tables[table], key) or {}


def size_of(item: dict) -> int:
    return dynamodb._item_size_bytes(item)


def reads_by_key(operation: str, data: dict) -> dict[str, float]:
    """Each item is rounded up by itself, whatever part of it was asked for; one that is not there costs as the smallest does."""
    if operation == "GetItem":
        return {data["TableName"]: read_units(size_of(item_of(data["TableName"], data["Key"])), data.get("ConsistentRead"))}
    if operation == "BatchGetItem":
        return {table: sum(read_units(size_of(item_of(table, key)), asked.get("ConsistentRead")) for key in asked["Keys"])
                for table, asked in data["RequestItems"].items()}
    units: dict[str, float] = {}
    if operation == "TransactGetItems":
        for get in (item["Get"] for item in data["TransactItems"]):
            units[get["TableName"]] = units.get(get["TableName"], 0) + 2 * read_units(size_of(item_of(get["TableName"], get["Key"])), True)
    return units


def writes_if_refused(operation: str, data: dict) -> dict[str, float]:
    """A write whose condition does not hold costs by the larger of what is there and what was to be put; indexes cost nothing."""
    if operation in ("PutItem", "UpdateItem", "DeleteItem"):
        return {data["TableName"]: refused(data)}
    units: dict[str, float] = {}
    if operation == "TransactWriteItems":
        for write in (write for item in data["TransactItems"] for write in item.values()):
            units[write["TableName"]] = units.get(write["TableName"], 0) + 2 * refused(write)
    return units


def refused(write: dict) -> float:
    there = item_of(write["TableName"], write.get("Key") or write["Item"])
    return dynamodb._capacity_kb(max(size_of(there), size_of(write.get("Item", {}))))


def looking(paginate):
    def noted(items, limit, table, index_name=None):
        page, more = paginate(items, limit, table, index_name)
        read_bytes.extend(size_of(dynamodb._apply_index_projection(item, table, index_name)) for item in page)
        return page, more

    return noted


def storing(change):
    """Wraps what puts an item into a table, or takes one out."""

    def noted(table, partition, sort, *item):
        before = footprint(table, table["items"].get(partition, {}).get(sort))
        changed = change(table, partition, sort, *item)
        name = table["TableName"]
        stored_bytes[name] = stored_bytes.get(name, 0) + footprint(table, item[0] if item else None) - before
        return changed

    return noted


def footprint(table: dict, item: dict | None) -> int:
    if not item:
        return 0
    entries = [dynamodb._index_write_view(table, index, item) for index in table.get("GlobalSecondaryIndexes") or []]
    return sum(size_of(kept) + ITEM_OVERHEAD for kept in [item, *(entry[1] for entry in entries if entry)])


# ---------------------------------------------------------------- invocations and messages


def invoking(execute, file: Path, note):
    def noted(func, config, event, request_id, started):
        written.sizes, written.apart = [], 0
        answer = execute(func, config, event, request_id, started)
        if file.exists():
            records = event.get("Records", []) if isinstance(event, dict) else []
            source = records[0].get("eventSource", "") if records else "http" if "requestContext" in event else "call"
            line = {"what": "invocation", "function": config["FunctionName"], "version": config.get("Version", "$LATEST")}
            line |= {"source": source.removeprefix("aws:"), "records": len(records)}
            line |= {"memory": config.get("MemorySize", 128), "ms": int((lambda_svc.time.time() - started) * 1000)}
            line |= {"log_lines": len(written.sizes), "log_bytes": sum(written.sizes), "log_bytes_apart": written.apart}
            note(line | {"failed": bool(isinstance(answer, dict) and answer.get("error"))})
        return answer

    return noted


def logging(append):
    def noted(stream, events):
        ours = [event["message"] for event in events if not event["message"].startswith(PLATFORM)]
        apart = [message for message in ours if any(name in message for name in APART)]
        written.apart = getattr(written, "apart", 0) + sum(len(message.encode()) for message in apart)
        written.sizes = [*getattr(written, "sizes", []), *(len(message.encode()) for message in ours if message not in apart)]
        return append(stream, events)

    return noted


def sending(dispatch, file: Path, note):
    def noted(spec, payload, sqs_parameters=None):
        if file.exists():
            note({"what": "message", "requests": chunks(len(payload.encode()))})
        return dispatch(spec, payload, sqs_parameters)

    return noted

"""Has the functions' calls of DynamoDB fail, as those of tables do that are asked for too much, or that do not answer for a while.
emulator.py puts it between the emulator's services.

What is to fail stands in the file `failing.json` of the stack's folder while it does; `make chaos` makes the file, and takes it away. Without
tables it is about all of them:

    {"error": "ProvisionedThroughputExceededException", "percent": 30, "tables": []}

Each call that has failed is a line of `failed.jsonl`. It stands behind the check of signatures and policies, and scripts and tests,
which ask as the account's root, get through.
"""
from __future__ import annotations

import json
import random
from pathlib import Path

from ministack import app
from ministack.core.iam_evaluator import caller_arn

THROTTLED = "ProvisionedThroughputExceededException"
JSON = "application/x-amz-json-1.0"


def install(folder: Path):
    app.SERVICE_HANDLERS["dynamodb"] = failing(app.SERVICE_HANDLERS["dynamodb"], folder)


def failing(handler, folder: Path):
    async def answered(method, path, headers, body, query):
        if ":assumed-role/" in caller_arn() and (wanted := what_fails(folder / "failing.json")):
            data = json.loads(body)
            asked = tables(data)
            if not wanted["tables"] or asked & set(wanted["tables"]):
                if random.randrange(100) < wanted["percent"]:
                    with (folder / "failed.jsonl").open("a") as out:
                        out.write(json.dumps({"error": wanted["error"], "tables": sorted(asked)}) + "\n")
                    return failure(wanted["error"], data)
        return await handler(method, path, headers, body, query)

    return answered


def what_fails(file: Path) -> dict | None:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return None


def tables(data: dict) -> set[str]:
    """Those that a call is about."""
    of_transaction = [one["TableName"] for item in data.get("TransactItems", []) for one in item.values()]
    return {*([data["TableName"]] if "TableName" in data else []), *data.get("RequestItems", {}), *of_transaction}


def failure(error: str, data: dict) -> tuple:
    """Of a transaction, DynamoDB says which part was too much, and lets none through."""
    answer: dict = {"message": "the stack was asked to have this fail"}
    if error == THROTTLED and "TransactItems" in data:
        reasons = [{"Code": "ProvisionedThroughputExceeded"}, *({"Code": "None"} for _ in data["TransactItems"][1:])]
        error, answer = "TransactionCanceledException", answer | {"CancellationReasons": reasons}
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{error}"} | answer).encode()
    return 500 if error == "InternalServerError" else 400, {"Content-Type": JSON, "x-amzn-errortype": error}, body

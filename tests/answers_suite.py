"""Holds what the service has answered to api/openapi.yaml: every answer that the system tests got, which they keep in the file ANSWERS.

Runs with the libraries of infra/local/sam.txt: ANSWERS=answers.jsonl .local/tools/sam/bin/python tests/answers_suite.py
"""
from __future__ import annotations

import functools
import json
import os
import re
import unittest
from collections import Counter
from pathlib import Path

import contract_suite
from contract_suite import JSON, Operation

CONTRACT = contract_suite.contract()
# What operations no test asks, or only in ways that nobody keeps.
UNASKED: set[str] = set()


@functools.cache
def operation_of(method: str, path: str) -> Operation | None:
    """A path that is written as it is comes before one with a name in it."""
    of_method = [operation for operation in CONTRACT.operations() if operation.method == method.lower()]
    found = [one for one in of_method if re.fullmatch(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(one.path)), path)]
    return min(found, key=lambda one: one.path.count("{"), default=None)


@functools.cache
def validator(operation: str, status: str, media_type: str):
    response = CONTRACT.responses(CONTRACT.operation(operation))[status]
    return CONTRACT.validator(response["content"][media_type]["schema"])


def is_the_gateways(answer: dict) -> bool:
    return re.fullmatch(r'\s*\{"message":\s*"[^"]*"\}\s*', answer["body"]) is not None


def wrong(answer: dict) -> str | None:
    """What is not as the contract says."""
    operation = operation_of(answer["method"], answer["url"].split("?")[0])
    if answer["status"] == 404 and is_the_gateways(answer):
        return None  # it knows no such route, also where a path has an encoded slash
    if operation is None:
        return "there is no such operation"
    responses = CONTRACT.responses(operation)
    response = responses.get(str(answer["status"]))
    if response is None:
        return "it says nothing of this status"
    headers = answer["headers"]
    content = response.get("content", {})
    media_type = headers.get("content-type", "")
    media_type = media_type if media_type in content else media_type.split(";")[0]
    if not answer["body"] and not content:
        return None
    if media_type not in content:
        return f"it says nothing of {media_type or 'no media type'}"
    # What API Gateway says by itself has none of the service's headers.
    if not is_the_gateways(answer):
        for name, header in response.get("headers", {}).items():
            if CONTRACT.resolved(header).get("required") and name.lower() not in headers:
                return f"there is no header {name}"
    if "json" not in media_type:
        return None
    try:
        body = json.loads(answer["body"])
    except ValueError:
        return "the body is no JSON"
    error = next(validator(operation.route, str(answer["status"]), media_type).iter_errors(body), None)
    return error and "; ".join(f"{one.message} at {one.json_path}" for one in contract_suite.closest(error))


class Answers(unittest.TestCase):
    def test_every_answer_is_as_the_contract_says(self):
        answers = [json.loads(line) for line in Path(os.environ["ANSWERS"]).read_text().splitlines()]
        asked, found = Counter(), Counter()
        for answer in answers:
            if operation := operation_of(answer["method"], answer["url"].split("?")[0]):
                asked[operation.route, answer["status"]] += 1
            if what := wrong(answer):
                found[f"{answer['method']} {answer['url'].split('?')[0]} {answer['status']}: {what}"[:400]] += 1
        for text, times in found.most_common(40):
            print(f"{times} times {text}")
        self.assertEqual(sum(found.values()), 0)
        routes = {operation.route for operation in CONTRACT.operations()}
        self.assertEqual(routes - {route for route, _ in asked}, UNASKED)
        print(f"{len(answers)} answers of {len({route for route, _ in asked})} operations, in {len(asked)} ways, are as the contract says")


class Spoiled(unittest.TestCase):
    """That something would be found."""

    def test_an_answer_that_is_not_as_the_contract_says_is_found(self):
        good = next(response["content"][JSON]["example"] for status, response in CONTRACT.responses(
            CONTRACT.operation("GET /api/v1/products/{product_id}")).items() if status == "200")
        headers = {"content-type": JSON} | {name.lower(): "x" for response in [CONTRACT.responses(CONTRACT.operation(
            "GET /api/v1/products/{product_id}"))["200"]] for name in response.get("headers", {})}

        def answer(**changes) -> dict:
            return {"method": "GET", "url": "/api/v1/products/tea", "status": 200, "headers": headers, "body": json.dumps(good)} | changes

        self.assertIsNone(wrong(answer()))
        for spoiled in (answer(status=299), answer(body=json.dumps(good | {"colour": "green"})), answer(body="{"), answer(method="POST"),
                        answer(body=json.dumps({key: value for key, value in good.items() if key != "id"})),
                        answer(headers=headers | {"content-type": "text/html"})):
            self.assertIsNotNone(wrong(spoiled), spoiled)


if __name__ == "__main__":
    unittest.main()

"""Holds api/openapi.yaml to the code, and docs/errors.md, docs/events.md and docs/api.md to api/openapi.yaml.

Whoever writes a client reads the contract and no Rust, so the one must say what the other does: each route, role, limit, field,
word and problem, each event and its versions. What the code says is read from its source. Every check is also shown a contract or
a source that has been spoiled, and has to find it.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/contract_suite.py
"""
from __future__ import annotations

import copy
import functools
import json
import re
import string
import unittest
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from provider_contract_suite import Loader, kebab, walk

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = "api/openapi.yaml"
DOMAIN, APPLICATION, HTTP = "shared/domain/src/", "shared/application/src/", "shared/adapters/src/http"
URN = "urn:order-service:problem:"
METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]
PROBLEM, JSON = "application/problem+json", "application/json"
UINT32_MAX = 2**32 - 1
CONSOLE = "GET /console"  # and what is below it are for people's browsers, so no client of the contract asks for them

FORMATS = FormatChecker(["uuid"])


@FORMATS.checks("date-time")
def is_time(text) -> bool:
    return not isinstance(text, str) or bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", text))


# ---------------------------------------------------------------- the form of an OpenAPI document

# Of OpenAPI 3.1, the objects that the contract uses, with all fields that they may have. A field with a `!` has to be there. What a
# field holds is a type, the name of an object, a list of these, or a map to these ({"*": ...}).
FORM = {
    "document": {"openapi!": str, "info!": "info", "jsonSchemaDialect": str, "servers": ["server"], "paths!": {"*": "path item"},
                 "webhooks": {"*": "path item"}, "components": "components", "security": [{"*": [str]}], "tags": ["tag"],
                 "externalDocs": "external documentation"},
    "info": {"title!": str, "summary": str, "description": str, "termsOfService": str, "license": "license", "version!": str},
    "license": {"name!": str, "identifier": str, "url": str},
    "server": {"url!": str, "description": str},
    "tag": {"name!": str, "description": str, "externalDocs": "external documentation"},
    "external documentation": {"url!": str, "description": str},
    "components": {"schemas": {"*": "schema"}, "responses": {"*": "response"}, "parameters": {"*": "parameter"},
                   "examples": {"*": "example"}, "requestBodies": {"*": "request body"}, "headers": {"*": "header"},
                   "securitySchemes": {"*": "security scheme"}},
    "path item": {"summary": str, "description": str, "parameters": ["parameter"], **{method: "operation" for method in METHODS}},
    "operation": {"tags": [str], "summary": str, "description": str, "externalDocs": "external documentation", "operationId": str,
                  "parameters": ["parameter"], "requestBody": "request body", "responses": {"*": "response"}, "deprecated": bool,
                  "security": [{"*": [str]}]},
    "parameter": {"name!": str, "in!": str, "description": str, "required": bool, "deprecated": bool, "style": str, "explode": bool,
                  "schema!": "schema", "example": "any", "examples": {"*": "example"}},
    "header": {"description": str, "required": bool, "deprecated": bool, "schema!": "schema", "example": "any",
               "examples": {"*": "example"}},
    "request body": {"description": str, "content!": {"*": "media type"}, "required": bool},
    "response": {"description!": str, "headers": {"*": "header"}, "content": {"*": "media type"}},
    "media type": {"schema!": "schema", "example": "any", "examples": {"*": "example"}},
    "example": {"summary": str, "description": str, "value!": "any"},
    "security scheme": {"type!": str, "description": str, "scheme": str, "bearerFormat": str, "flows": "flows", "name": str, "in": str,
                        "openIdConnectUrl": str},
    "flows": {"clientCredentials": "flow"},
    "flow": {"tokenUrl!": str, "refreshUrl": str, "scopes!": {"*": str}},
}
# What may be a reference instead, and where that leads.
REFERABLE = {"schema": "schemas", "response": "responses", "parameter": "parameters", "example": "examples",
             "request body": "requestBodies", "header": "headers"}
# What JSON Schema may say here. One that is misspelt would hold nothing.
KEYWORDS = {"$ref", "type", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "items",
            "properties", "required", "additionalProperties", "unevaluatedProperties", "dependentRequired", "enum", "const",
            "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "description", "default", "examples"}


def form(node, kind, path: str):
    """What is not as OpenAPI has it."""
    if kind == "any":
        return
    if isinstance(kind, type):
        if not isinstance(node, kind):
            yield f"{path} is no {kind.__name__}"
    elif isinstance(kind, list):
        if not isinstance(node, list):
            yield f"{path} is no list"
            return
        for index, child in enumerate(node):
            yield from form(child, kind[0], f"{path}/{index}")
    elif not isinstance(node, dict):
        yield f"{path} is no {kind if isinstance(kind, str) else 'map'}"
    elif isinstance(kind, dict):
        for key, child in node.items():
            if not isinstance(key, str):
                yield f"{path} has a key that is no text: {key!r}"
            yield from form(child, kind["*"], f"{path}/{key}")
    elif kind == "schema":
        yield from keywords(node, path)
    elif "$ref" in node:
        if node.keys() - {"$ref", "summary", "description"}:
            yield f"{path} is a reference and something else: {sorted(node)}"
        if not str(node["$ref"]).startswith(f"#/components/{REFERABLE.get(kind)}/"):
            yield f"{path} refers to what is no {kind}: {node['$ref']}"
    else:
        fields = {name.rstrip("!"): of for name, of in FORM[kind].items()}
        for name in FORM[kind]:
            if name.endswith("!") and name[:-1] not in node:
                yield f"{path} has no {name[:-1]}"
        for key, child in node.items():
            if key in fields:
                yield from form(child, fields[key], f"{path}/{key}")
            elif not str(key).startswith("x-"):
                yield f"{path} has {key}, which no {kind} has"


def children(schema: dict):
    """The schemas in a schema, and where they are."""
    for name, child in schema.get("properties", {}).items():
        yield f"properties/{name}", child
    for key in ("allOf", "anyOf", "oneOf"):
        for index, child in enumerate(schema.get(key, [])):
            yield f"{key}/{index}", child
    for key in ("items", "not", "if", "then", "else", "additionalProperties", "unevaluatedProperties"):
        if key in schema:
            yield key, schema[key]


def keywords(schema, path: str):
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{path} is no schema"
        return
    for key in schema.keys() - KEYWORDS:
        yield f"{path} says {key}, which holds nothing"
    if "$ref" in schema and schema.keys() - {"$ref", "description"}:
        yield f"{path} has something beside its $ref, which generators of code leave out; say allOf"
    for where, child in children(schema):
        yield from keywords(child, f"{path}/{where}")


def closest(error) -> list:
    """Of what alternatives say against a value, the words of the one that is most likely meant."""
    alternatives: dict[int, list] = {}
    for one in error.context:
        alternatives.setdefault(one.schema_path[0], []).append(one)
    if not alternatives:
        return [error]
    likely = min(alternatives.values(), key=lambda errors: (sum(one.validator in ("const", "type") for one in errors), len(errors)))
    return [deeper for one in likely for deeper in closest(one)]


def says(node: dict, words: str) -> bool:
    """And not `50` where there is 500."""
    return bool(re.search(rf"(?<!\d){re.escape(words)}(?!\d)", " ".join(node["description"].split())))


# ---------------------------------------------------------------- the source


def snake(name: str) -> str:
    return kebab(name).replace("-", "_")


def code_of(text: str) -> str:
    """Without its tests, and without comments on lines of their own."""
    text = re.split(r"\n#\[cfg\(test\)\]\n(?:mod tests|#\[expect)", text)[0]
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))


def between(text: str, begin: str, brackets: str = "{}") -> str:
    """What stands in the brackets after this."""
    if begin not in text:
        raise LookupError(f"there is no {begin!r} any more")
    start = text.index(brackets[0], text.index(begin) + len(begin) - (begin[-1] == brackets[0]))
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == brackets[0]) - (text[at] == brackets[1])
        if depth == 0:
            return text[start + 1:at]
    raise LookupError(f"{begin!r} has no end")


def constant(text: str, name: str) -> int:
    found = re.search(rf"const {name}: \w+ = ([\d_]+)(?: \* ([\d_]+))?(?: \* ([\d_]+))?;", text)
    if not found:
        raise LookupError(f"there is no constant {name} any more")
    product = 1
    for factor in filter(None, found.groups()):
        product *= int(factor)
    return product


@dataclass
class Field:
    name: str
    kind: str
    attributes: str

    @property
    def optional(self) -> bool:
        return self.kind.startswith("Option<")


def fields_in(body: str) -> list[Field]:
    fields, attributes, rest = [], "", body.strip()
    while rest:
        if rest.startswith("#["):
            attribute = between(rest, "#", "[]")
            attributes += attribute
            rest = rest[len(attribute) + 3:].lstrip()
        else:
            name, rest = re.match(r"(?:pub )?(\w+): ", rest)[1], re.sub(r"^(?:pub )?\w+: ", "", rest, count=1)
            depth = end = 0
            while end < len(rest) and (rest[end] != "," or depth):
                depth += (rest[end] in "<([") - (rest[end] in ">)]")
                end += 1
            fields.append(Field(name, rest[:end].strip(), attributes))
            attributes, rest = "", rest[end + 1:].lstrip()
    return fields


def struct(text: str, name: str) -> list[Field]:
    found = re.search(rf"struct {name}(<[^>]*>)? \{{", text)
    if not found:
        raise LookupError(f"there is no struct {name} any more")
    return fields_in(between(text, found[0]))


def variants(text: str, name: str) -> list[str]:
    """As serde names them in snake case."""
    body = re.sub(r"#\[[^\]]*\]", "", between(text, f"enum {name} {{"))
    while "(" in body or "{" in body:
        body = re.sub(r"\([^()]*\)|\{[^{}]*\}", "", body)
    return [snake(variant) for variant in re.findall(r"\w+", body)]


def listed(text: str, name: str) -> str:
    found = re.search(rf"const {name}: \[[^\]]*\] = \[(.*?)\];", text, re.DOTALL)
    if not found:
        raise LookupError(f"there is no list {name} any more")
    return found[1]


def words_in(text: str, name: str) -> list[str]:
    return re.findall(r'"([\w-]+)"', listed(text, name))


def arms(text: str) -> dict[str, str]:
    """`"a" | "b" => x` by a and b."""
    found = {}
    for keys, value in re.findall(r'((?:"\w+"\s*\|?\s*)+) => &\[(.*?)\],\n', text, re.DOTALL):
        for key in re.findall(r'"(\w+)"', keys):
            found[key] = value
    return found


def characters(rule: str) -> set[str]:
    """Those that a Rust closure lets through, of ASCII. It refuses a rule that it cannot read."""
    allowed, rest = set(), rule
    if "is_ascii_alphanumeric()" in rest:
        allowed |= set(string.ascii_letters + string.digits)
    for first, last in re.findall(r"b?'(.)'\.\.=b?'(.)'", rest):
        allowed |= {chr(code) for code in range(ord(first), ord(last) + 1)}
    excluded = re.findall(r"!= b'(.)'", rest)
    singles = re.sub(r"b?'.'\.\.=b?'.'|!= b'.'", "", rest)
    allowed |= set(re.findall(r"'(.)'", singles))
    if not allowed:
        raise LookupError(f"this reads no {rule!r}")
    return allowed - set(excluded)


# What JSON makes of a type. All others are objects.
WORDS = {"String", "str", "Text", "CountryCode", "CustomerId", "ProductId", "OrderId", "RefundId", "ReservationId", "TransactionId",
         "ShipmentId", "NotificationId", "PaymentMethod", "Uuid", "DateTime", "Email", "CancelReason", "StaffNote", "OrderStatus",
         "PaymentStatus", "ShipmentStatus", "RefundState", "ShipmentBook", "SkippableStep", "LateEffect", "Status", "Kind", "Currency",
         "Who", "WaitsFor", "Coming"}
NUMBERS = {"u8", "u16", "u32", "u64", "usize", "i64", "Quantity"}
UUIDS = {"OrderId", "RefundId", "AdjustmentId", "Uuid"}
UNIONS = {"RejectionReason"}


def bare(kind: str) -> str:
    """`&'e Option<X>` without the reference."""
    return re.sub(r"^&('\w+ )?", "", kind)


# ---------------------------------------------------------------- the contract

# A schema, and the struct that serde writes or deserr reads as that. A name after a colon is left out of the answer.
ANSWERS = {
    "Order": (f"{DOMAIN}order_view.rs", "OrderView", {"in_doubt_since"}),
    "Customer": (f"{DOMAIN}order_view.rs", "CustomerView", set()),
    "OrderPayment": (f"{DOMAIN}order_view.rs", "PaymentView", set()),
    "OrderShipment": (f"{DOMAIN}order_view.rs", "ShipmentView", set()),
    "OrderRefund": (f"{DOMAIN}order_view.rs", "RefundView", set()),
    "Rejection": (f"{DOMAIN}order_view.rs", "RejectionView", set()),
    "Attention": (f"{DOMAIN}order_view.rs", "AttentionView", set()),
    "Cancellation": (f"{DOMAIN}order_view.rs", "CancellationView", set()),
    "ShippingAddress": (f"{DOMAIN}address.rs", "ShippingAddress", set()),
    "OrderItem": (f"{DOMAIN}order.rs", "OrderItem", set()),
    "Shortage": (f"{DOMAIN}order.rs", "Shortage", set()),
    "Product": (f"{DOMAIN}product.rs", "Product", set()),
    "Books": (f"{DOMAIN}books.rs", "Books", set()),
    "ReservedLine": (f"{DOMAIN}books.rs", "ReservedLine", set()),
    "Money": (f"{DOMAIN}money.rs", "Money", set()),
    "Profile": (f"{HTTP}.rs", "ProfileBody", set()),
    "OrderRow": (f"{HTTP}.rs", "OrderRow", set()),
    "PastEvent": (f"{HTTP}.rs", "PastEventBody", set()),
    "FieldError": (f"{HTTP}/problem.rs", "FieldError", set()),
    "CustomerOrders": ("functions/list-customer-orders/src/main.rs", "ListBody", set()),
    "ListedOrders": ("functions/list-orders/src/main.rs", "ListBody", set()),
    "Stats": ("functions/get-stats/src/main.rs", "StatsBody", set()),
    "StatsPeriod": ("functions/get-stats/src/main.rs", "PeriodBody", set()),
    "StatsAmounts": ("functions/get-stats/src/main.rs", "AmountsBody", set()),
    "ListedProducts": ("functions/list-products/src/main.rs", "ListBody", set()),
    "DeadLetters": ("functions/list-dead-letters/src/main.rs", "ListBody", set()),
    "DeadLetter": ("shared/adapters/src/http/dead_letters.rs", "LetterBody", set()),
    "Settlement": ("shared/adapters/src/http/dead_letters.rs", "SettlementBody", set()),
    "DeadLettersRedriven": ("functions/redrive-dead-letters/src/main.rs", "RedrivenBody", set()),
    "DeadLettersDiscarded": ("functions/discard-dead-letters/src/main.rs", "DiscardedBody", set()),
    "Timeline": ("functions/get-timeline/src/main.rs", "TimelineBody", set()),
    "TimelineEntry": (f"{APPLICATION}timeline.rs", "Entry", set()),
    "TimelineNext": (f"{APPLICATION}timeline.rs", "Next", set()),
    "TimelineTries": (f"{APPLICATION}ports/fulfilment.rs", "Tries", set()),
    "FoundOrders": ("functions/search-orders/src/main.rs", "SearchBody", set()),
    "Health": ("functions/health/src/main.rs", "Health", set()),
    "ComponentHealth": ("functions/health/src/main.rs", "ComponentHealth", set()),
    "ProviderHealth": ("functions/health/src/main.rs", "ProviderHealth", set()),
    "EventMetadata": ("shared/adapters/src/event_bridge.rs", "DetailMetadata", set()),
}
# Rows that have more than a schema of their own says.
ROWS = {
    "/FoundOrders/properties/orders/items": ("functions/search-orders/src/main.rs", "FoundRow"),
    "/ListedOrders/properties/orders/items": ("functions/list-orders/src/main.rs", "ListedRow"),
    "/EventList/properties/events/items": ("functions/list-events/src/main.rs", "ToldEvent"),
}
REQUESTS = {
    "PlaceOrder": ("functions/create-order/src/main.rs", "CreateOrderBody"),
    "RequestedItem": ("functions/create-order/src/main.rs", "ItemBody"),
    "Address": ("functions/create-order/src/main.rs", "AddressFields"),
    "CancelOrder": ("functions/cancel-order/src/main.rs", "CancelOrderBody"),
    "RequestRefund": ("functions/request-refund/src/main.rs", "RequestRefundBody"),
    "ResumeFulfilment": ("functions/resume-fulfilment/src/main.rs", "ResumeFulfilmentBody"),
    "SkipStep": ("functions/skip-step/src/main.rs", "SkipStepBody"),
    "ResumeOrders": ("functions/resume-orders/src/main.rs", "ResumeOrdersBody"),
    "PutCustomer": ("functions/put-customer/src/main.rs", "ProfileBody"),
    "PutProduct": ("functions/put-product/src/main.rs", "ProductBody"),
    "AdjustStock": ("functions/adjust-stock/src/main.rs", "AdjustStockBody"),
    "RedriveDeadLetters": ("functions/redrive-dead-letters/src/main.rs", "RedriveDeadLettersBody"),
    "DiscardDeadLetters": ("functions/discard-dead-letters/src/main.rs", "DiscardDeadLettersBody"),
    "Money": (f"{HTTP}/body.rs", "MoneyBody"),
}
# A schema, and the function that writes it by `json!`.
WRITTEN_OUT = {
    "OrderPlaced": "create-order", "CancelAccepted": "cancel-order", "DeliveryRecorded": "record-delivery",
    "RefundAccepted": "request-refund", "ResumeAccepted": "resume-fulfilment", "SkipAccepted": "skip-step",
    "OrdersResumed": "resume-orders", "StockAdjusted": "adjust-stock", "Ledger": "get-ledger", "LedgerBooks": "get-ledger",
    "History": "get-order-events", "EventList": "list-events",
}


@dataclass
class Operation:
    path: str
    method: str
    item: dict
    node: dict

    @property
    def route(self) -> str:
        return f"{self.method.upper()} {self.path}"


@dataclass
class Contract:
    """What is written, and what the code says. `findings` are what the one says and the other does not."""

    api: dict
    texts: dict[str, str]  # by path, as they are

    def code(self, path: str) -> str:
        return code_of(self.texts[path])

    def function(self, name: str) -> str:
        return self.code(f"functions/{name}/src/main.rs")

    @property
    def schemas(self) -> dict:
        return self.api["components"]["schemas"]

    def resolved(self, node):
        while isinstance(node, dict) and set(node) <= {"$ref", "description", "summary"} and "$ref" in node:
            target = self.api
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target.get(part) if isinstance(target, dict) else None
            node = target
        return node

    def validator(self, schema: dict) -> Draft202012Validator:
        return Draft202012Validator(schema | {"components": self.api["components"]}, format_checker=FORMATS)

    def wrong(self, schema: dict, value) -> list[str]:
        """What a schema says against a value."""
        errors = (one for error in self.validator(schema).iter_errors(value) for one in closest(error))
        return [f"{error.message} at {error.json_path}" for error in errors]

    def operations(self) -> list[Operation]:
        return [Operation(path, method, item, item[method]) for path, item in self.api["paths"].items()
                for method in METHODS if method in item]

    def operation(self, route: str) -> Operation | None:
        return next((operation for operation in self.operations() if operation.route == route), None)

    def parameters(self, operation: Operation) -> list[dict]:
        return [self.resolved(one) for one in [*operation.item.get("parameters", []), *operation.node.get("parameters", [])]]

    def responses(self, operation: Operation) -> dict[str, dict]:
        return {status: self.resolved(response) for status, response in operation.node["responses"].items()}

    @functools.cached_property
    def routes(self) -> dict[str, tuple[str, bool]]:
        """The function of each route that is deployed, and whether it asks for a token."""
        pattern = r"^  (\w+)Route:\n    Type: AWS::ApiGatewayV2::Route\n    Properties:\n((?:      .*\n)+)"
        found = {}
        for name, properties in re.findall(pattern, self.texts["infra/api.yaml"], re.MULTILINE):
            key = re.search(r"RouteKey: (.*)", properties)[1]
            if key == CONSOLE:
                continue
            found[key] = kebab(name), "AuthorizationType: JWT" in properties
        return found

    # The document.

    def form(self) -> list[str]:
        found = [] if self.api.get("openapi", "").startswith("3.1.") else ["this is not OpenAPI 3.1"]
        found += form(self.api, "document", "#")
        for kind, components in self.api["components"].items():
            found += [f"#/components/{kind} has a name that is none: {name}" for name in components
                      if not re.fullmatch(r"[a-zA-Z0-9._-]+", name)]
        for schema in [*self.schemas.values(), *(node["schema"] for _, node in walk(self.api) if isinstance(node.get("schema"), dict)
                                                 and ("in" in node or "example" in node or "examples" in node))]:
            check = Draft202012Validator(Draft202012Validator.META_SCHEMA)
            found += [f"{error.json_path}: {error.message}" for error in check.iter_errors(schema)]
        return found

    def names(self) -> list[str]:
        operations = self.operations()
        hooks = [item[method] for item in self.api["webhooks"].values() for method in METHODS if method in item]
        ids = [node["operationId"] for node in [*(operation.node for operation in operations), *hooks]]
        found = [f"two operations are named {name}" for name, count in Counter(ids).items() if count > 1]
        tags = {tag["name"] for tag in self.api["tags"]}
        used = {tag for node in [*(operation.node for operation in operations), *hooks] for tag in node["tags"]}
        found += [f"the tag {tag} is in one of the two only" for tag in tags ^ used]
        for operation in operations:
            parameters = [(one["name"], one["in"]) for one in self.parameters(operation)]
            found += [f"{operation.route} has {name} twice" for name, count in Counter(parameters).items() if count > 1]
            in_path = {name for name, place in parameters if place == "path"}
            found += [f"{operation.route}: {name} is in one of path and parameters only"
                      for name in in_path ^ set(re.findall(r"\{(\w+)\}", operation.path))]
            found += [f"{operation.route}: {one['name']} may be left out of the path" for one in self.parameters(operation)
                      if one["in"] == "path" and one.get("required") is not True]
            found += [f"{operation.route} answers {status}" for status in operation.node["responses"]
                      if not re.fullmatch(r"[1-5]\d\d", str(status))]
            found += [f"{operation.route} says nothing of itself" for name in ("summary", "operationId") if not operation.node.get(name)]
        return found

    def references(self) -> list[str]:
        found = [f"{path} refers to what is not there: {node['$ref']}" for path, node in walk(self.api)
                 if isinstance(node.get("$ref"), str) and self.resolved({"$ref": node["$ref"]}) is None]
        used = {node["$ref"] for _, node in walk(self.api) if isinstance(node.get("$ref"), str)}
        return found + [f"nothing refers to {kind}/{name}" for kind, components in self.api["components"].items()
                        if kind != "securitySchemes" for name in components if f"#/components/{kind}/{name}" not in used]

    def shown(self):
        """Each example, with its schema and where it is."""
        for path, node in walk(self.api):
            if "schema" in node and ("example" in node or "examples" in node):
                if "example" in node:
                    yield path, node["schema"], node["example"]
                for name, example in node.get("examples", {}).items():
                    yield f"{path}/{name}", node["schema"], (self.resolved(example) or {}).get("value")
        for name, schema in self.schemas.items():
            for example in schema.get("examples", []):
                yield f"#/components/schemas/{name}", schema, example

    def examples(self) -> list[str]:
        found = [f"{path}: {wrong}" for path, schema, example in self.shown() for wrong in self.wrong(schema, example)]
        for path, node in walk(self.api):
            if isinstance(node.get("content"), dict):
                found += [f"{path} shows no example of {media}" for media, content in node["content"].items()
                          if "example" not in content and "examples" not in content and "/webhooks/" not in path]
        for kind in ("parameters", "headers"):
            found += [f"{kind}/{name} shows no example" for name, node in self.api["components"][kind].items()
                      if "example" not in node and "examples" not in node]
        return found + [f"the event {name} shows no example of its data" for name in self.api["webhooks"]
                        if not self.schemas.get(name, {}).get("examples")]

    def closed(self) -> list[str]:
        """What is not named here is in no request and in no answer."""
        found = []
        for path, schema, example in self.shown():
            reference = schema.get("$ref", "").rpartition("/")[2]
            for where, _ in walk(example):
                inside = where.removeprefix("#").split("/")[1:]
                if reference == "GatewayMessage" or "/webhooks/" in path and inside[:1] != ["detail"]:
                    continue
                drifted = copy.deepcopy(example)
                node = drifted
                for key in inside:
                    node = node[int(key) if isinstance(node, list) else key]
                node["drift"] = 1
                if self.validator(schema).is_valid(drifted):
                    found.append(f"{path} may have anything at {where}")
        return found

    def deprecations(self) -> list[str]:
        """What is to go says so in every answer, and until when it is there."""
        return [f"{operation.route} is deprecated, and its {status} does not say {header}" for operation in self.operations()
                if operation.node.get("deprecated") for status, response in self.responses(operation).items()
                for header in ("Deprecation", "Sunset") if header not in response.get("headers", {})]

    # Routes.

    def routes_are_those_of_the_api(self) -> list[str]:
        written = {operation.route: operation.node.get("security", self.api["security"]) != [] for operation in self.operations()}
        deployed = {route: asks for route, (_, asks) in self.routes.items()}
        found = [f"{route} is in one of contract and infra/api.yaml only" for route in written.keys() ^ deployed.keys()]
        return found + [f"{route} is open in one of the two only" for route in written.keys() & deployed.keys()
                        if written[route] != deployed[route]]

    def roles(self) -> list[str]:
        http, found = self.code(f"{HTTP}.rs"), []
        scopes = dict(re.findall(r'const (\w+)_SCOPE: &str = "([^"]+)";', http))
        found += [f"the scope {scope} is in one of the two only" for scope in set(scopes.values())
                  ^ self.api["components"]["securitySchemes"]["machine"]["flows"]["clientCredentials"]["scopes"].keys()]
        for operation in self.operations():
            if operation.route not in self.routes:
                continue
            name, asks = self.routes[operation.route]
            code = self.function(name)
            staff, customer, carrier = {"token": ["staff"]}, {"token": ["customer"]}, {"token": ["carrier"]}
            if ".staff_or_carrier()?" in code:
                expected = [staff, carrier, {"machine": [scopes["CARRIER"]]}]
            elif ".staff_or_metrics()?" in code:
                expected = [staff, {"machine": [scopes["METRICS"]]}]
            elif ".supervisor()?" in code:
                expected = [{"token": ["supervisor"]}]
            elif ".staff()?" in code:
                expected = [staff]
            else:
                expected = [customer, staff] if asks else []
            if operation.node.get("security", self.api["security"]) != expected:
                found.append(f"{operation.route} is for {expected}")
            # Some of what staff may do is for supervisors from an amount on.
            if re.search(r"supervisor\(\)", code) and not re.search("supervisors", operation.node["description"], re.IGNORECASE):
                found.append(f"{operation.route} does not say what is for supervisors")
        return found

    def limits_of_callers(self) -> list[str]:
        table = self.texts[f"{HTTP}/limits.rs"]
        counts = dict(re.findall(r'^    \("([A-Z]+ [^"]+)", (Command|Read|Own\(Class::\w+\))\),', table, re.MULTILINE))
        words = dict(re.findall(r'Self::(\w+) => "(\w+)"', self.code(f"{APPLICATION}limits.rs")))
        found = [f"{route} is in one of contract and http/limits.rs only" for route in
                 counts.keys() ^ {operation.route for operation in self.operations() if operation.node.get("security") != []}]
        for operation in self.operations():
            count = counts.get(operation.route)
            of = [role for way in operation.node.get("security", self.api["security"]) for role in way.get("token", [])]
            of = ["staff" if role == "supervisor" else role for role in of]
            if count is None:
                expected = []
            elif count.startswith("Own("):
                expected = [words[count.removeprefix("Own(Class::").rstrip(")")]]
            else:
                expected = [f"{role}_{count.lower()}s" for role in of]
            if any(one["name"] == "min_version" for one in self.parameters(operation)):
                expected.append(words["WaitingReads"])
            if count == "Read" and any(one["name"] == "status" for one in self.parameters(operation)):
                expected.append(words["Searches"])
            if operation.node.get("x-limits") != expected:
                found.append(f"{operation.route} counts towards {expected}")
        return found

    def parameters_are_those_that_are_read(self) -> list[str]:
        found = []
        for operation in self.operations():
            if operation.route not in self.routes:
                continue
            code = self.function(self.routes[operation.route][0])
            query = re.search(r"\.query\(&\[([^\]]*)\]\)", code)
            expected = {("query", name) for name in re.findall(r'"(\w+)"', query[1] if query else "")}
            expected |= {("path", name) for name in re.findall(r"\{(\w+)\}", operation.path)}
            expected |= {("header", "X-Correlation-Id"), ("header", "traceparent")}
            if "request.idempotency_key()" in code or "request.command_id(" in code:
                expected.add(("header", "Idempotency-Key"))
            if '"if-none-match"' in code:
                expected.add(("header", "If-None-Match"))
            written = {(one["in"], one["name"]) for one in self.parameters(operation)}
            found += [f"{operation.route}: {one} is in one of the two only" for one in expected ^ written]
            found += [f"{operation.route} has a body in one of the two only"
                      for has in [("request.json()" in code, "requestBody" in operation.node)] if has[0] != has[1]]
            required = set(re.findall(r'\.required\("(\w+)"', code))
            found += [f"{operation.route}: {one['name']} is required in one of the two only" for one in self.parameters(operation)
                      if one["in"] == "query" and one.get("required", False) != (one["name"] in required)]
        return found

    def answers_have_their_statuses_and_headers(self) -> list[str]:
        found = []
        for operation in self.operations():
            if operation.route not in self.routes:
                continue
            name, asks = self.routes[operation.route]
            code = self.function(name)
            good = set(re.findall(r"\b(20\d|304)\b", re.sub(r"Text<\d+>", "", code))) | ({"202"} if "http::accepted(" in code else set())
            written = {status for status in operation.node["responses"] if status < "400"}
            found += [f"{operation.route}: {status} is in one of the two only" for status in good ^ written]
            for status, response in self.responses(operation).items():
                headers = set(response.get("headers", {}))
                if status < "400":
                    expected = {"X-Correlation-Id", "Cache-Control"} | ({"RateLimit", "RateLimit-Policy"} if asks else set())
                    replays = "http::accepted(" in code or '"idempotent-replayed"' in code
                    for says, header in [(replays, "Idempotent-Replayed"), ('"location"' in code, "Location"), ('"etag"' in code, "ETag")]:
                        expected |= {header} if says else set()
                    found += [f"{operation.route}: of {status}, {header} is in one of the two only" for header in headers ^ expected]
                elif PROBLEM in response.get("content", {}):
                    expected = {"X-Correlation-Id", "Cache-Control"} | ({"Retry-After"} if status in ("429", "503") else set())
                    found += [f"{operation.route}: {status} does not say {header}" for header in expected - headers]
        return found

    # Problems.

    @functools.cached_property
    def problems_of_the_code(self) -> dict[str, tuple[set[int], set[str]]]:
        """The statuses and titles of each kind."""
        found: dict[str, tuple[set[int], set[str]]] = {}
        sources = [f"{HTTP}/problem.rs", *(f"functions/{name}/src/main.rs" for name, _ in self.routes.values())]
        for path in sources:
            for status, kind, title in re.findall(r'(?:Problem|Self)::new\(\s*(\d+),\s*"([a-z-]+)",\s*"([^"]+)"', self.code(path)):
                statuses, titles = found.setdefault(kind, (set(), set()))
                statuses.add(int(status))
                titles.add(title)
        return found

    @functools.cached_property
    def problems_of_the_contract(self) -> dict[str, dict]:
        found = {}
        for name, schema in self.schemas.items():
            if name.endswith("Problem") and name != "Problem":
                found[str(schema["properties"]["type"].get("const", "")).removeprefix(URN)] = schema | {"name": name}
        return found

    def problems(self) -> list[str]:
        code, contract = self.problems_of_the_code, self.problems_of_the_contract
        found = [f"the problem {kind} is in one of the two only" for kind in code.keys() ^ contract.keys()]
        for kind in code.keys() & contract.keys():
            (statuses, titles), schema = code[kind], contract[kind]
            properties = schema["properties"]
            title = properties["title"]
            if {properties["status"].get("const")} != statuses:
                found.append(f"{kind} has the status {statuses}")
            if set(title.get("enum", [title.get("const")])) != titles:
                found.append(f"{kind} has the title {titles}")
            if kebab(schema["name"].removesuffix("Problem")) != kind:
                found.append(f"{schema['name']} is {kind}")
        problem = self.code(f"{HTTP}/problem.rs")
        own = set(re.findall(r'body\.insert\("(\w+)"', problem)) - {"errors"}
        found += [f"{name} is a member of problems in one of the two only" for name in own ^ self.schemas["Problem"]["properties"].keys()]
        sources = [problem, *(self.function(name) for name, _ in self.routes.values())]
        more = {name for code in sources for name in re.findall(r'\.with\("(\w+)"', code)} | {"errors"}
        written = {name for schema in contract.values() for name in schema["properties"]} - {"type", "title", "status"}
        return found + [f"{name} is a member of some problem in one of the two only" for name in more ^ written]

    def problems_of_operations(self) -> list[str]:
        found = []
        for operation in self.operations():
            if operation.route not in self.routes:
                continue
            written = {}
            for status, response in self.responses(operation).items():
                schema = response.get("content", {}).get(PROBLEM, {}).get("schema", {})
                for one in schema.get("oneOf", [schema] if schema else []):
                    kind = self.resolved(one)["properties"]["type"]["const"].removeprefix(URN)
                    written[kind] = status
                    examples = response["content"][PROBLEM].get("examples", {})
                    if not any((self.resolved(example) or {}).get("value", {}).get("type") == URN + kind for example in examples.values()):
                        found.append(f"{operation.route} shows no {kind}")
            expected = self.problems_expected(operation)
            found += [f"{operation.route}: {kind} is in one of the two only" for kind in expected ^ written.keys()]
            found += [f"{operation.route}: {kind} is no {status}" for kind, status in written.items()
                      if kind in self.problems_of_the_code and int(status) not in self.problems_of_the_code[kind][0]]
        return found

    def problems_expected(self, operation: Operation) -> set[str]:
        name, asks = self.routes[operation.route]
        code = self.function(name)
        rules = [
            (True, {"header-sent-twice", "internal", "unavailable"}),
            (asks, {"unauthorized", "rate-limited"}),
            ("request.json()" in code, {"invalid-request", "malformed-body", "body-too-large", "unsupported-media-type"}),
            ("request.query(" in code or "Problem::invalid" in code, {"invalid-request"}),
            ("request.idempotency_key()" in code or "request.command_id(" in code, {"invalid-idempotency-key"}),
            ("Problem::key_reused()" in code, {"idempotency-key-reused"}),
            # Where the key is in the command's id, the same id with another body is another request.
            ("request.command_id(" in code and "Problem::not_done(" in code, {"idempotency-key-reused"}),
            (bool(re.search(r"\.(staff(_or_\w+)?|supervisor)\(\)\?|Problem::forbidden\(", code)), {"forbidden"}),
            (bool(re.search(r"\.(order_id|customer_id)\(\)\?|Problem::not_found\(", code)), {"not-found"}),
        ]
        own = set(re.findall(r'Problem::new\(\s*\d+,\s*"([a-z-]+)"', code))
        return own | {kind for holds, kinds in rules if holds for kind in kinds}

    # Words and limits.

    def words(self) -> list[str]:
        order, view = self.code(f"{DOMAIN}order.rs"), self.code(f"{DOMAIN}order_view.rs")
        skippable = dict(re.findall(r'Self::(\w+) => "([a-z-]+)"', between(order, "impl SkippableStep {")))
        steps = re.findall(r'"([a-z-]+)"|SkippableStep::(\w+)\.name\(\)', listed(self.code(f"{APPLICATION}figures.rs"), "STEPS"))
        health = self.function("health")
        components = re.findall(r'\("(\w+)", "\w+_TABLE"\)', health) + re.findall(r'ask\("(\w+)"', health)
        components += re.findall(r'\("(\w+)", lambda::variable\("\w+_ARN"\)', health)
        in_code = {
            "/schemas/OrderStatus": re.findall(r'Self::\w+ => "(\w+)"', between(order, "impl OrderStatus {")),
            "/schemas/RejectionCode": words_in(order, "CODES"),
            "/schemas/SkippableStep": list(skippable.values()),
            "/schemas/Step": [word or skippable[step] for word, step in steps],
            "/schemas/EventType": words_in(order, "TYPES") + words_in(self.code(f"{DOMAIN}customer.rs"), "TYPES"),
            "/schemas/Limit": re.findall(r'Self::\w+ => "(\w+)"', self.code(f"{APPLICATION}limits.rs")),
            "/schemas/ShipmentBook": variants(self.code(f"{DOMAIN}books.rs"), "ShipmentBook"),
            "/schemas/OrderPayment/properties/status": variants(view, "PaymentStatus"),
            "/schemas/OrderShipment/properties/status": variants(view, "ShipmentStatus"),
            "/schemas/OrderRefund/properties/status": variants(order, "RefundState"),
            "/schemas/BooksCompared/properties/late/items": variants(order, "LateEffect"),
            "/schemas/Provider/properties/kind": variants(self.code(f"{DOMAIN}provider.rs"), "Provider"),
            "/schemas/ProviderHealth/properties/kind": variants(self.code("shared/settings/src/lib.rs"), "Kind"),
            "/schemas/ProviderHealth/properties/port": re.findall(r'Self::\w+ => "(\w+)"', between(
                self.code("shared/providers/src/port.rs"), "fn name(self)")),
            "/schemas/Health/properties/status": variants(health, "Status"),
            "/schemas/ComponentHealth/properties/name": components,
            "/schemas/TimelineEntry/properties/who": variants(self.code(f"{APPLICATION}timeline.rs"), "Who"),
            "/schemas/TimelineNext/properties/code": variants(self.code(f"{APPLICATION}timeline.rs"), "Coming"),
            "/schemas/TimelineNext/properties/waits_for": variants(self.code(f"{APPLICATION}timeline.rs"), "WaitsFor"),
            "/schemas/CancelAccepted/properties/status": [snake(name) for name in re.findall(
                r"OrderStatus::(\w+)", between(self.function("cancel-order"), "fn respond<"))],
        }
        found = [f"{path} is {words}" for path, words in in_code.items()
                 if sorted(self.at(path).get("enum", [])) != sorted(set(words)) or not words]
        in_chinese = set(re.findall(r"^  (\w+):", between(self.texts["functions/console/assets/text.js"], "const NEXT = {"), re.MULTILINE)) - {"tried"}
        found += [f"the console has no Chinese for {code}" for code in set(self.at("/schemas/TimelineNext/properties/code")["enum"]) - in_chinese]
        found += [f"the console has Chinese for {code}, which nobody says" for code in in_chinese - set(self.at("/schemas/TimelineNext/properties/code")["enum"])]
        roles = re.findall(r'=> "(\w+)"', between(self.code(f"{HTTP}.rs"), "fn actor("))
        pattern = self.schemas["Actor"]["pattern"]
        found += [f"the actor {role} is in one of the two only" for role in
                  {*roles, "service"} ^ set(re.findall(r"\w+", pattern.split(")")[0]))]
        for name, function, key in [("OrderPlaced", "create-order", "status"), ("RefundAccepted", "request-refund", "status"),
                                    ("ResumeAccepted", "resume-fulfilment", "status"), ("SkipAccepted", "skip-step", "status")]:
            said = re.findall(rf'"{key}": "(\w+)"', self.function(function))
            found += [f"{name} says {said}" for _ in [0] if said != [self.schemas[name]["properties"][key].get("const")]]
        codes = [one["properties"]["code"]["const"] for one in self.schemas["RejectionReason"]["oneOf"]]
        return found + [f"the code {code} is in one of the two only" for code in set(codes) ^ set(words_in(order, "CODES"))]

    def at(self, path: str) -> dict:
        node = self.api["components"]
        for part in path.strip("/").split("/"):
            node = node[part]
        return self.resolved(node)

    def bounds(self) -> list[str]:
        """Numbers, and what ids are made of."""
        ids, money, create = self.code(f"{DOMAIN}ids.rs"), self.code(f"{DOMAIN}money.rs"), self.code(f"{DOMAIN}order/create.rs")
        http, query = self.code(f"{HTTP}.rs"), self.code(f"{HTTP}/query.rs")
        amount, stock = {"minimum": 0, "maximum": constant(money, "MAX_AMOUNT")}, {"minimum": 0, "maximum": UINT32_MAX}
        page = {"minimum": 1, "maximum": constant(query, "PAGE_SIZE_MAX")}
        search = re.search(r"Text<(\d+)>", self.code(f"{DOMAIN}search.rs"))
        told = constant(self.code(f"{APPLICATION}timeline.rs"), "ENTRIES_MAX")
        expected = {
            "/schemas/Money/properties/amount": amount,
            "/schemas/LedgerBooks/properties/charged": amount,
            "/schemas/LedgerBooks/properties/refunded": amount,
            "/schemas/RequestedItem/properties/quantity": {"minimum": 1, "maximum": constant(money, "MAX")},
            "/schemas/PlaceOrder/properties/items": {"minItems": 1, "maxItems": constant(create, "MAX")},
            "/schemas/PutProduct/properties/stock": stock,
            "/schemas/AdjustStock/properties/counted": stock,
            "/schemas/AdjustStock/properties/by": {"minimum": -UINT32_MAX, "maximum": UINT32_MAX},
            "/schemas/Product/properties/stock": stock,
            "/schemas/StockOutOfRangeProblem/properties/stock": stock,
            "/schemas/PutCustomer/properties/email": {"maxLength": constant(self.code(f"{DOMAIN}customer.rs"), "MAX")},
            "/schemas/OrdersResumed/properties/order_ids": {"maxItems": constant(self.function("resume-orders"), "IDS_MAX")},
            "/schemas/Timeline/properties/entries": {"maxItems": told},
            "/parameters/PageSize/schema": page | {"default": constant(query, "PAGE_SIZE")},
            "/parameters/SearchText/schema": {"maxLength": int(search[1])},
        }
        found = [f"{path} has {name} {bound}" for path, bounds in expected.items() for name, bound in bounds.items()
                 if self.at(path).get(name) != bound]
        rules = {name: (int(longest), characters(rule)) for name, longest, rule in
                 re.findall(r'\n    (\w+), max (\d+), (\|c\| .*), "[^"]+"\n', ids)}
        key, safe = between(http, "fn idempotency_key("), between(http, "fn is_safe_id(")
        rules["IdempotencyKey"] = int(re.search(r"1\.\.=(\d+)", key)[1]), characters(re.search(r"b' '.*?(?=\))", key)[0])
        rules["CorrelationId"] = int(re.search(r"1\.\.=(\d+)", safe)[1]), characters(safe.split("&&")[1])
        name = between(self.function("resume-orders"), "fn name(")
        step = int(re.search(r"1\.\.=(\d+)", name)[1]), characters(name.split("allowed = ")[1].split(";")[0])
        in_code = {f"/schemas/{schema}": rule for schema, rule in rules.items()}
        in_code |= {f"/schemas/ResumeOrders/properties/{field}": step for field in ("step", "error")}
        for path, (longest, allowed) in in_code.items():
            check = self.validator(self.at(path)).is_valid
            taken = {chr(code) for code in range(128) if check(chr(code))}
            found += [f"{path} differs in {''.join(sorted(taken ^ allowed))!r}" for _ in [0] if taken != allowed]
            one = min(allowed - {" "})
            if not check(one * longest) or check(one * (longest + 1)) or check("") or check("é"):
                found.append(f"{path} is not 1 to {longest} long, or is more than ASCII")
        # What stands in words.
        window, valid = self.code(f"{APPLICATION}list_events.rs"), self.code(f"{DOMAIN}order/validate.rs")
        pauses = sum(map(int, re.findall(r"\d+", re.search(r"PAUSES_MS: \[u64; \d\] = \[(.*)\];", self.function("get-order"))[1])))
        searching = self.code(f"{APPLICATION}search_orders.rs")
        looked_at = sum(map(int, re.findall(r"[\d_]+", re.search(r"LOOKED_AT: \[usize; \d\] = \[(.*)\];", searching)[1])))
        said = [
            ("/parameters/To", f"{re.search(r'WINDOW_MAX: TimeDelta = TimeDelta::days.([0-9]+).;', window)[1]} days"),
            ("/parameters/MinVersion", f"{pauses} ms"),
            ("/schemas/Timeline/properties/entries", f"newest {told}"),
            ("/parameters/Books", f"{constant(self.function('list-orders'), 'BOOKS_PAGE_MAX')} at most"),
            ("/schemas/BodyTooLargeProblem", f"{constant(http, 'BODY_BYTES_MAX'):,} bytes"),
            ("/schemas/NotRefundableProblem", f"{constant(self.code(f'{DOMAIN}order/request_refund.rs'), 'REFUNDS_MAX')} refunds"),
            ("/schemas/InvalidRequestProblem", f"{constant(self.code(f'{HTTP}/body.rs'), 'ERRORS_MAX')} at most"),
            ("/schemas/RejectionCode", f"{re.search(r'VALID_FOR: TimeDelta = TimeDelta::hours.([0-9]+).;', valid)[1]} hours"),
        ]
        found += [f"{path} does not say {words!r}" for path, words in said if not says(self.at(path), words)]
        finds = self.operation("GET /api/v1/orders/search")
        resumes = self.operation("POST /api/v1/fulfilment/resume")
        resumed = constant(self.code(f"{APPLICATION}resume_orders.rs"), "RESUMED_MAX")
        for operation, words in [(finds, f"first {constant(searching, 'ROWS_MAX'):,}"), (finds, f"newest {looked_at:,}"),
                                 (finds, f"more than {constant(searching, 'CUSTOMERS_MAX')}"), (resumes, f"at most {resumed}")]:
            found += [f"{operation.route} does not say {words!r}" for _ in [0] if operation and not says(operation.node, words)]
        default = re.search(r'Self\("(\w+)"\.to_owned\(\)\)', between(ids, "impl Default for PaymentMethod"))[1]
        words = self.at("/schemas/PlaceOrder/properties/payment_method")["description"]
        return found + [f"without a payment_method there is {default}" for _ in [0] if f"`{default}`" not in words]

    # Fields.

    def kinds(self, schema) -> set[str]:
        """What JSON a schema takes."""
        schema = self.resolved(schema)
        if not isinstance(schema, dict):
            return set()
        if "$ref" in schema:
            return self.kinds({"$ref": schema["$ref"]})
        if "type" in schema:
            return set([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
        if "enum" in schema or "const" in schema:
            json_names = {str: "string", bool: "boolean", int: "integer", type(None): "null"}
            return {json_names[type(value)] for value in schema.get("enum", [schema.get("const")])}
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return set().union(*(self.kinds(one) for one in schema[key]))
        return self.kinds(schema["allOf"][0]) if "allOf" in schema else {"object"} if "properties" in schema else set()

    def not_null(self, schema):
        schema = self.resolved(schema)
        if isinstance(schema, dict) and "anyOf" in schema:
            return self.resolved(next(one for one in schema["anyOf"] if one != {"type": "null"}))
        return self.resolved({"$ref": schema["$ref"]}) | schema if isinstance(schema, dict) and "$ref" in schema else schema

    def misfit(self, kind: str, schema) -> str:
        """What is wrong with the schema of a value of this type."""
        kind = bare(kind)
        if kind.startswith("Option<"):
            if "null" not in self.kinds(schema):
                return "may be null"
            return self.misfit(kind.removeprefix("Option<")[:-1], self.not_null(schema))
        if kind.startswith("Box<"):
            return self.misfit(kind.removeprefix("Box<")[:-1], schema)
        name = re.match(r"(?:\w+::)*(\w+)", kind)[1]
        expected = "array" if name == "Vec" else "string" if name in WORDS else "integer" if name in NUMBERS else \
            "boolean" if name == "bool" else "object"
        found = self.kinds(schema) - {"null"}
        if found != {expected}:
            return f"is {expected}, not {sorted(found)}"
        whole = self.not_null(schema)
        if name == "Vec":
            return self.misfit(kind.removeprefix("Vec<")[:-1], whole.get("items", {}))
        for names, form in [(UUIDS, "uuid"), ({"DateTime"}, "date-time")]:
            if (name in names) != (whole.get("format") == form):
                return f"is {'' if name in names else 'no '}{form}"
        return ""

    def written(self, path: str, name: str) -> list[Field]:
        """The fields that serde writes for a struct."""
        fields = []
        for field in struct(self.code(path), name):
            if "serde(flatten)" not in field.attributes:
                fields.append(field)
                continue
            of = re.sub(r"<.*>", "", bare(field.kind)).split("::")[-1]
            if of == "EventOfAny":
                fields += [Field("type", "String", ""), Field("data", "Value", "")]
            else:
                places = {"Profile": f"{DOMAIN}customer.rs", "PageLinks": f"{HTTP}/query.rs", "OrderRow": f"{HTTP}.rs",
                          "PastEventBody": f"{HTTP}.rs", "Refund": f"{DOMAIN}order.rs", "Timeline": f"{APPLICATION}timeline.rs"}
                fields += self.written(places[of], of)
        return fields

    def properties(self, schema: dict) -> tuple[dict, set[str]]:
        """Of a schema with all that it refers to: the properties, and which have to be there."""
        properties, required = dict(schema.get("properties", {})), set(schema.get("required", []))
        for other in [schema] * ("$ref" in schema) + schema.get("allOf", []):
            more, needed = self.properties(self.resolved({"$ref": other["$ref"]})) if "$ref" in other else self.properties(other)
            properties, required = more | properties, required | needed
        if "oneOf" in schema and all("type" in one.get("properties", {}) for one in schema["oneOf"]):
            properties |= {name: {"type": kind} for name, kind in [("type", "string"), ("data", "object")]}
        return properties, required

    def differences(self, name: str, fields: list[Field], schema: dict, omitted: set[str] = frozenset()) -> list[str]:
        properties, required = self.properties(schema)
        expected = {field.name: field for field in fields if field.name not in omitted}
        found = [f"{name}.{one} is in one of the two only" for one in expected.keys() ^ properties.keys()]
        for one in expected.keys() & properties.keys():
            field = expected[one]
            wrong = self.misfit(field.kind, properties[one]) if field.kind not in UNIONS and field.kind != "Value" else ""
            if "skip_serializing_if" in field.attributes and field.optional:
                wrong = "" if "null" not in self.kinds(properties[one]) else "is never null"
            if wrong:
                found.append(f"{name}.{one} {wrong}")
            if (one in required) == ("skip_serializing_if" in field.attributes):
                found.append(f"{name}.{one} is {'not ' * (one in required)}always there")
        return found

    def fields_of_answers(self) -> list[str]:
        found = []
        for name, (path, of, omitted) in ANSWERS.items():
            found += self.differences(name, self.written(path, of), self.schemas[name], omitted)
        for path, (source, of) in ROWS.items():
            found += self.differences(path, self.written(source, of), self.at(f"/schemas{path}"))
        for name, function in WRITTEN_OUT.items():
            properties, required = self.properties(self.schemas[name])
            if properties.keys() != required or required not in self.objects_of(function):
                found.append(f"{name} is none of {self.objects_of(function)}")
        return found

    def objects_of(self, function: str) -> list[set[str]]:
        """The members of each object that it writes."""
        code, found = self.function(function), []
        for start in (match.start() for match in re.finditer(r"json!\(\{", code)):
            body = between(code[start:], "json!(")
            while "(" in body or "{" in body or "[" in body:
                body = re.sub(r"\([^(){}\[\]]*\)|\{[^(){}\[\]]*\}|\[[^(){}\[\]]*\]", "_", body)
            found.append(set(re.findall(r'"(\w+)":', body)))
        return found

    def fields_of_requests(self) -> list[str]:
        found = []
        for name, (path, of) in REQUESTS.items():
            code, schema = self.code(path), self.schemas[name]
            head = code[:code.index(f"struct {of} {{")].rsplit("#[derive", 1)[1]
            if ("deny_unknown_fields" in head) != (schema.get("additionalProperties") is False):
                found.append(f"{name} may have other fields in one of the two only")
            properties, required = self.properties(schema)
            fields = {field.name: field for field in struct(code, of)}
            found += [f"{name}.{one} is in one of the two only" for one in fields.keys() ^ properties.keys()]
            for one in fields.keys() & properties.keys():
                field, whole = fields[one], self.not_null(properties[one])
                if ("default" in field.attributes.split("try_from")[0]) == (one in required):
                    found.append(f"{name}.{one} is {'not ' * (one in required)}required")
                if field.optional != ("null" in self.kinds(properties[one])):
                    found.append(f"{name}.{one} is null in one of the two only")
                longest = {"CancelReason": "500", "StaffNote": "500"}.get(field.kind.removeprefix("Option<").rstrip(">")) or \
                    (re.search(r"Text<(\d+)>", field.kind) or [None, None])[1]
                if longest and whole.get("maxLength") != int(longest):
                    found.append(f"{name}.{one} has at most {longest} characters")
                if longest and (whole.get("minLength") == 1) == field.optional:
                    found.append(f"{name}.{one} is empty in one of the two only")
        own = {word for word in re.findall(r"pub type (?:CancelReason|StaffNote) = Text<(\d+)>", self.code(f"{DOMAIN}order.rs"))}
        return found + [f"a reason or note has {own} characters" for _ in [0] if own != {"500"}]

    # Events.

    @functools.cached_property
    def events_of_the_code(self) -> dict[str, list[Field]]:
        order, found = self.code(f"{DOMAIN}order.rs"), {}
        body = between(order, "enum OrderEvent {")
        for name, of, inline in re.findall(r"\n    (\w+)(?:\((\w+)\)| \{([^}]*)\}),", body):
            found[name] = self.written(f"{DOMAIN}order.rs", of) if of else fields_in(inline)
        return found | {"CustomerProfileUpdated": self.written(f"{DOMAIN}customer.rs", "Profile")}

    @functools.cached_property
    def new_fields(self) -> dict[str, list[list[str]]]:
        """By type, the fields that each version after the first has added."""
        upcasters = arms(between(self.code(f"{DOMAIN}order.rs"), "fn upcasters("))
        upcasters["CustomerProfileUpdated"] = self.code(f"{DOMAIN}customer.rs").split("const UPCASTERS", 1)[1].split(";", 2)[1]
        lifts = {name: re.findall(r'\|data\| with_field\(data, "(\w+)"', value) for name, value in upcasters.items()}
        return {name: [[field] for field in fields] for name, fields in lifts.items()}

    def events(self) -> list[str]:
        code, hooks = self.events_of_the_code, self.api["webhooks"]
        personal = arms(between(self.code(f"{DOMAIN}order.rs"), "fn personal_fields("))
        personal |= arms(between(self.code(f"{DOMAIN}customer.rs"), "fn personal_fields("))
        found = [f"the event {name} is in one of the two only" for name in code.keys() ^ hooks.keys()]
        told = {one["properties"]["type"]["const"]: one["properties"]["data"] for one in self.schemas["WhatHappened"]["oneOf"]}
        found += [f"the event {name} is in one of webhooks and WhatHappened only" for name in told.keys() ^ hooks.keys()]
        for name in code.keys() & hooks.keys() & told.keys():
            new = [field for fields in self.new_fields.get(name, []) for field in fields]
            schema = hooks[name]["post"]["requestBody"]["content"][JSON]["schema"]
            properties = schema["properties"]
            detail = properties["detail"]
            metadata = detail["properties"]["metadata"]["properties"]
            if schema["allOf"] != [{"$ref": "#/components/schemas/BusEvent"}]:
                found.append(f"{name} is not on the bus")
            if {properties["detail-type"]["const"], metadata["event_type"]["const"]} != {name}:
                found.append(f"{name} is named otherwise")
            if metadata["schema"]["enum"] != list(range(1, len(new) + 2)):
                found.append(f"{name} has {len(new) + 1} versions")
            if metadata["personal"]["const"] != re.findall(r'"(\w+)"', personal.get(name, "")):
                found.append(f"{name} has other personal fields")
            if detail["properties"]["data"]["anyOf"] != [{"$ref": f"#/components/schemas/{name}"}, {"type": "null"}]:
                found.append(f"{name} has other data on the bus")
            if detail.get("else", {}).get("properties", {}).get("data", {}).get("required", []) != new:
                found.append(f"{name} has {new} from version 2 on")
            reference = {"$ref": f"#/components/schemas/{name}"}
            if told[name] != ({"allOf": [reference], "required": new} if new else reference):
                found.append(f"{name} has other data in a history")
            # Of the first version, only what it had.
            fields = [Field(of.name, of.kind, of.attributes + "skip_serializing_if" * (of.name in new)) for of in code[name]]
            found += [one for one in self.differences(name, fields, self.schemas.get(name, {}))
                      if not (one.split()[0].removeprefix(f"{name}.") in new and "never null" in one)]
        source = re.search(r'const SOURCE: &str = "([\w-]+)";', self.code("shared/adapters/src/event_bridge.rs"))[1]
        return found + [f"the source is {source}" for _ in [0] if self.schemas["BusEvent"]["properties"]["source"] != {"const": source}]

    def stored(self):
        """Every event that the domain holds still, also with values that no command may have now."""
        for path in sorted(self.texts):
            if path.startswith(DOMAIN) and path.endswith(".golden.jsonl") and "events" in path:
                for number, line in enumerate(self.texts[path].splitlines(), 1):
                    yield f"{path}:{number}", json.loads(line)

    def stored_events_are_what_the_bus_says(self) -> list[str]:
        found = []
        for where, event in self.stored():
            hook = self.api["webhooks"].get(event["type"])
            if not hook:
                found.append(f"{where}: nobody is told of {event['type']}")
                continue
            schema = hook["post"]["requestBody"]["content"][JSON]["schema"]
            of = "customer" if event["type"].startswith("Customer") else "order"
            metadata = {"event_id": "x/1", "event_type": event["type"], "schema": event["schema"], "aggregate_type": of, "aggregate_id": "x",
                        "sequence": 1, "occurred_at": "2026-01-01T00:00:00Z", "command_id": "5f3c1a52-52a5-5bb0-a1c4-0d8a7d1b2c3d",
                        "correlation_id": "c", "causation_id": "c", "traceparent": None, "actor": "service:x",
                        "personal": schema["properties"]["detail"]["properties"]["metadata"]["properties"]["personal"]["const"]}
            frame = {"source": "order-service", "detail-type": event["type"]}
            whole = frame | {"detail": {"metadata": metadata, "data": event["data"]}}
            found += [f"{where}: {wrong}" for wrong in self.wrong(schema, whole)]
            without = frame | {"detail": {"metadata": metadata, "data": None}}
            if self.validator(schema).is_valid(without):
                found.append(f"{where}: data is null, and nobody says so")
            without["detail"]["metadata"] = metadata | {"data_omitted": True}
            found += [f"{where}: without data, {wrong}" for wrong in self.wrong(schema, without)]
            newest = len(self.new_fields.get(event["type"], [])) + 1
            if event["schema"] == newest:
                past = {"version": 1, "type": event["type"], "data": event["data"], "occurred_at": "2026-01-01T00:00:00Z", "actor": "staff:x",
                        "command_id": metadata["command_id"], "correlation_id": "c", "causation_id": "c", "traceparent": None}
                told = {"$ref": "#/components/schemas/PastEvent", "unevaluatedProperties": False}
                found += [f"{where}: in a history, {wrong}" for wrong in self.wrong(told, past)]
        return found

    # Samples.

    def samples(self) -> list[str]:
        """What functions are fed in their tests is what clients may send."""
        found, fed = [], set()
        for path in sorted(self.texts):
            event = json.loads(self.texts[path]) if path.startswith("events/") else {}
            if isinstance(event, dict) and event.get("routeKey", "").split("/{")[0] == CONSOLE:
                continue
            operation = self.operation(event["routeKey"]) if isinstance(event, dict) and "routeKey" in event else None
            if not operation:
                found += [f"{path} is for no route of the contract" for _ in [0] if isinstance(event, dict) and "routeKey" in event]
                continue
            fed.add(operation.route)
            found += [f"{path}: {problem}" for problem in self.wrong_with(operation, event)]
        return found + [f"{route} has no sample" for route in self.routes.keys() - fed]

    def wrong_with(self, operation: Operation, event: dict):
        pairs = parse_qsl(event["rawQueryString"], keep_blank_values=True, strict_parsing=bool(event["rawQueryString"]))
        sent = {"query": dict(pairs), "path": event.get("pathParameters") or {}, "header": event["headers"]}
        known = {(one["in"], one["name"].lower() if one["in"] == "header" else one["name"]): one for one in self.parameters(operation)}
        for place, name in [(place, name) for place in ("query", "path") for name in sent[place]]:
            if (place, name) not in known:
                yield f"{name} is no parameter of the {place}"
        for (place, name), parameter in known.items():
            if name not in sent[place]:
                if parameter.get("required"):
                    yield f"{name} is not there"
                continue
            text = sent[place][name]
            values = [text, int(text)] if re.fullmatch(r"\d+", text) else [text]
            if not any(self.validator(parameter["schema"]).is_valid(value) for value in values):
                yield f"{name} may not be {text}"
        if "requestBody" in operation.node:
            schema = operation.node["requestBody"]["content"][JSON]["schema"]
            yield from self.wrong(schema, json.loads(event["body"]))
        elif "body" in event:
            yield "nobody reads its body"
        claims = event["requestContext"].get("authorizer", {}).get("jwt", {}).get("claims")
        ways = operation.node.get("security", self.api["security"])
        if not ways:
            if claims:
                yield "nobody asks for its token"
            return
        groups = (claims or {}).get("cognito:groups", "").strip("[]").split()
        groups += ["staff"] if "supervisor" in groups else []
        scopes = claims.get("scope", "").split() if claims and claims.get("client_id") == claims["sub"] else []
        if not any(set(way.get("token", [])) & {"customer", *groups} or set(way.get("machine", [])) & set(scopes) for way in ways):
            yield "its caller may not"

    # What is written beside it.

    def errors_page(self) -> list[str]:
        rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", self.texts["docs/errors.md"], re.MULTILINE))
        expected = {kind: str(schema["properties"]["status"]["const"]) for kind, schema in self.problems_of_the_contract.items()}
        return [f"docs/errors.md: {row} is in one of the two only" for row in set(rows.items()) ^ set(expected.items())]

    def events_page(self) -> list[str]:
        found, rows = [], {}
        for name, version, data, personal in re.findall(r"^\| `(\w+)` \| (\d) \|[^|]*\|([^|]*)\|([^|]*)\|$",
                                                        self.texts["docs/events.md"], re.MULTILINE):
            rows[name] = int(version), re.findall(r"`(\w+)`", data), re.findall(r"`(\w+)`", personal)
        found += [f"docs/events.md: {name} is in one of the two only" for name in rows.keys() ^ self.api["webhooks"].keys()]
        for name in rows.keys() & self.api["webhooks"].keys():
            schema = self.api["webhooks"][name]["post"]["requestBody"]["content"][JSON]["schema"]
            metadata = schema["properties"]["detail"]["properties"]["metadata"]["properties"]
            expected = (max(metadata["schema"]["enum"]), list(self.schemas[name].get("properties", {})), metadata["personal"]["const"])
            found += [f"docs/events.md: {name} is {expected}" for _ in [0] if rows[name] != expected]
        members = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", self.texts["docs/events.md"], re.MULTILINE)
        return found + [f"docs/events.md: metadata.{name} is in one of the two only"
                        for name in set(members) ^ self.schemas["EventMetadata"]["properties"].keys()]

    def api_page(self) -> list[str]:
        rows = {route: (who, limits) for route, who, limits in
                re.findall(r"^\| `([A-Z]+ /[^`?]*)` \| [^|]* \| ([^|]*) \| ([^|]*) \|$", self.texts["docs/api.md"], re.MULTILINE)}
        found = [f"docs/api.md: {route} is in one of the two only" for route in rows.keys() ^ {one.route for one in self.operations()}]
        for operation in self.operations():
            who, limits = rows.get(operation.route, ("", ""))
            ways = operation.node.get("security", self.api["security"])
            roles = [role for way in ways for role in way.get("token", []) + [f"`{scope}`" for scope in way.get("machine", [])]]
            expected = ", ".join(roles) or "anyone", ", ".join(f"`{limit}`" for limit in operation.node["x-limits"]) or "none"
            found += [f"docs/api.md: {operation.route} is for {expected}" for _ in [0] if (who, limits) != expected]
        return found


CHECKS = ["form", "names", "references", "examples", "closed", "deprecations", "routes_are_those_of_the_api", "roles",
          "limits_of_callers", "parameters_are_those_that_are_read", "answers_have_their_statuses_and_headers", "problems",
          "problems_of_operations", "words", "bounds", "fields_of_answers", "fields_of_requests", "events",
          "stored_events_are_what_the_bus_says", "samples", "errors_page", "events_page", "api_page"]


@functools.cache
def as_it_is_written() -> Contract:
    paths = [*ROOT.glob("functions/*/src/*.rs"), *ROOT.glob("shared/*/src/**/*.rs"), *ROOT.glob("shared/domain/src/**/*.jsonl"),
             *ROOT.glob("events/*.json"), ROOT / "infra/api.yaml", ROOT / "functions/console/assets/text.js",
             *(ROOT / f"docs/{page}.md" for page in ("api", "errors", "events"))]
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in paths}
    return Contract(api=yaml.load((ROOT / CONTRACT).read_text(), Loader), texts=texts)


def contract() -> Contract:
    """A copy, which may be spoiled."""
    written = as_it_is_written()
    return Contract(api=copy.deepcopy(written.api), texts=dict(written.texts))


# ---------------------------------------------------------------- what is there


class Written(unittest.TestCase):
    def test_every_part_says_the_same(self):
        for check in CHECKS:
            with self.subTest(check):
                self.assertEqual(getattr(contract(), check)(), [])

    def test_everything_is_read(self):
        """A reader that finds nothing finds nothing wrong."""
        written = contract()
        self.assertEqual(len(written.routes), 27)
        self.assertGreaterEqual(len(written.problems_of_the_code), 24)
        self.assertGreaterEqual(len(written.events_of_the_code), 25)
        self.assertGreaterEqual(len(list(written.stored())), 48)
        self.assertGreaterEqual(len(list(written.shown())), 140)
        self.assertGreaterEqual(sum(len(written.written(path, of)) for path, of, _ in ANSWERS.values()), 120)

    def test_the_contract_is_such_as_people_read(self):
        long = [line for line in (ROOT / CONTRACT).read_text().splitlines() if len(line) > 150]
        self.assertEqual(long, [])


# ---------------------------------------------------------------- what would be found


class Spoiled(unittest.TestCase):
    """Each check is shown what it is to find: in the contract, in the code, or in a page."""

    def assert_found(self, check: str, spoil, *words: str):
        spoiled = contract()
        spoil(spoiled)
        found = " ".join(getattr(spoiled, check)())
        for word in words:
            self.assertIn(word, found, check)

    def in_api(self, check: str, path: str, change, *words: str):
        """`change` gets what is at this path of the document, with spaces between."""
        def spoil(spoiled):
            node = spoiled.api
            for part in path.split(" "):
                node = node[int(part) if isinstance(node, list) else part]
            change(node)
        self.assert_found(check, spoil, *words)

    def in_text(self, check: str, path: str, before: str, after: str, *words: str):
        def spoil(spoiled):
            self.assertIn(before, spoiled.texts[path], f"{path} says it in other words now")
            spoiled.texts[path] = spoiled.texts[path].replace(before, after)
        self.assert_found(check, spoil, *words)

    def test_the_form(self):
        orders = "paths /api/v1/orders post"
        for path, change, word in [
            ("info", lambda of: of.pop("title"), "#/info has no title"),
            (orders, lambda of: of.update(responces={}), "has responces"),
            (orders, lambda of: of.update(summary=7), "summary is no str"),
            (orders, lambda of: of["responses"].update({"404": {"$ref": "#/components/examples/Unavailable"}}), "is no response"),
            (orders, lambda of: of["responses"]["201"].pop("description"), "201 has no description"),
            ("components schemas Money", lambda of: of.update(maxLenght=3), "says maxLenght"),
            ("components schemas Money", lambda of: of["properties"]["amount"].update(minimum="0"), "'0' is not of type 'number'"),
            ("components schemas WhatHappened oneOf 0 properties data", lambda of: of.update(required=["providers"]), "beside its $ref"),
            ("components schemas", lambda of: of.update({"a b": {}}), "a name that is none"),
            ("components parameters Page", lambda of: of.pop("in"), "Page has no in"),
        ]:
            self.in_api("form", path, change, word)
        self.assert_found("form", lambda spoiled: spoiled.api.update(openapi="3.0.3"), "not OpenAPI 3.1")
        with self.assertRaises(yaml.YAMLError):
            yaml.load("a: 1\na: 2", Loader)

    def test_names_and_references(self):
        self.in_api("names", "paths /api/v1/orders post", lambda of: of.update(operationId="getOrder"), "two operations are named getOrder")
        self.in_api("names", "paths /api/v1/orders post", lambda of: of.update(tags=["Ordres"]), "the tag Ordres")
        self.in_api("names", "paths /api/v1/orders/{order_id} parameters", lambda of: of.pop(0), "order_id is in one")
        self.in_api("names", "components parameters OrderId", lambda of: of.pop("required"), "may be left out of the path")
        self.in_api("names", "paths /api/v1/orders parameters", lambda of: of.append(of[0]), "twice")
        self.in_api("references", "components schemas", lambda of: of.pop("Money"), "#/components/schemas/Money")
        self.in_api("references", "components schemas", lambda of: of.update(Nobody={}), "nothing refers to schemas/Nobody")

    def test_examples(self):
        for path, change, word in [
            ("paths /api/v1/orders post responses 201 content application/json", lambda of: of["example"].update(version=0), "minimum of 1"),
            ("paths /api/v1/orders post responses 201 content application/json", lambda of: of.pop("example"), "shows no example"),
            ("components examples OutOfStock value", lambda of: of.update(status=404), "409 was expected"),
            ("components examples OrderCreatedOnBus value detail metadata", lambda of: of.update(command_id="x"), "is not a 'uuid'"),
            ("components examples DeliveredOrder value", lambda of: of.update(created_at="yesterday"), "is not a 'date-time'"),
            ("components schemas RefundFailed examples 0", lambda of: of.pop("reason"), "'reason' is a required property"),
            ("components schemas RefundFailed", lambda of: of.pop("examples"), "RefundFailed shows no example"),
            ("components parameters Page", lambda of: of.update(example=0), "0 is less than the minimum"),
            ("components headers RateLimit", lambda of: of.pop("example"), "headers/RateLimit shows no example"),
        ]:
            self.in_api("examples", path, change, word)

    def test_what_is_open(self):
        def open_it(schema):
            schema.pop("additionalProperties", None)
            schema.pop("unevaluatedProperties", None)
        for name in ["PlaceOrder", "Address", "Order", "CustomerOrders", "EventMetadata", "BooksCompared", "OutOfStockProblem"]:
            self.in_api("closed", f"components schemas {name}", open_it, "may have anything")
        rows = "components schemas FoundOrders properties orders items"
        self.in_api("closed", rows, lambda of: of.pop("unevaluatedProperties"), "may have anything at #/orders/0")

    def test_what_is_to_go(self):
        get = "paths /api/v1/products/{product_id} get"
        self.in_api("deprecations", get, lambda of: of.update(deprecated=True), "its 200 does not say Sunset")

    def test_routes(self):
        check, api = "routes_are_those_of_the_api", "infra/api.yaml"
        self.in_api(check, "paths", lambda of: of.pop("/metrics"), "GET /metrics")
        self.in_api(check, "paths /metrics", lambda of: of.update(put=of.pop("get")), "PUT /metrics", "GET /metrics")
        self.in_api(check, "paths /metrics get", lambda of: of.update(security=[]), "GET /metrics is open")
        self.in_text(check, api, "RouteKey: GET /metrics", "RouteKey: GET /figures", "GET /metrics", "GET /figures")
        health = "      RouteKey: GET /health\n"
        self.in_text(check, api, health, health + "      AuthorizationType: JWT\n", "GET /health is open")

    def test_roles(self):
        self.in_api("roles", "paths /api/v1/orders/search get", lambda of: of.pop("security"), "GET /api/v1/orders/search is for")
        self.in_text("roles", "functions/search-orders/src/main.rs", "request.staff()?", "request.caller()?", "GET /api/v1/orders/search")
        self.in_text("roles", f"{HTTP}.rs", "orders/carrier", "orders/parcels", "orders/parcels", "/delivery")
        self.in_text("roles", "functions/skip-step/src/main.rs", "request.supervisor()?", "request.staff()?", "/fulfilment/skip is for")
        refunds = "paths /api/v1/orders/{order_id}/refunds post"
        self.in_api("roles", refunds, lambda of: of.update(description="Money goes back."), "/refunds does not say what is for supervisors")

    def test_limits_of_callers(self):
        check, path = "limits_of_callers", f"{HTTP}/limits.rs"
        self.in_api(check, "paths /metrics get", lambda of: of.update({"x-limits": ["searches"]}), "GET /metrics counts towards ['scrapes']")
        self.in_text(check, path, '("GET /api/v1/events", Own(Class::EventLists))', '("GET /api/v1/events", Read)', "GET /api/v1/events counts")
        self.in_text(check, f"{APPLICATION}limits.rs", '"scrapes"', '"figures"', "GET /metrics counts towards ['figures']")
        skip = "paths /api/v1/orders/{order_id}/fulfilment/skip post"
        self.in_api(check, skip, lambda of: of.update({"x-limits": []}), "/fulfilment/skip counts towards ['staff_commands']")

    def test_parameters(self):
        check = "parameters_are_those_that_are_read"
        self.in_api(check, "paths /api/v1/events get parameters", lambda of: of.pop(), "('query', 'after')")
        self.in_api(check, "components parameters SearchText", lambda of: of.update(required=False), "q is required")
        self.in_api(check, "paths /api/v1/fulfilment/resume post", lambda of: of.pop("requestBody"), "has a body")
        search = "functions/search-orders/src/main.rs"
        self.in_text(check, search, '["q", "page", "page_size"]', '["q", "page", "page_size", "sort"]', "('query', 'sort')")
        cancel = "functions/cancel-order/src/main.rs"
        self.in_text(check, cancel, "let id = request.order_id()?;", "let id = request.order_id()?; request.idempotency_key()?;", "Idempotency-Key")

    def test_answers(self):
        check = "answers_have_their_statuses_and_headers"
        refunds = "paths /api/v1/orders/{order_id}/refunds post responses"
        self.in_api(check, refunds, lambda of: of.update({"200": of.pop("202")}), "/refunds: 200", "/refunds: 202")
        self.in_api(check, f"{refunds} 202 headers", lambda of: of.pop("Idempotent-Replayed"), "Idempotent-Replayed")
        self.in_api(check, "paths /api/v1/orders post responses 201 headers", lambda of: of.pop("Location"), "Location")
        self.in_api(check, "components responses Unavailable headers", lambda of: of.pop("Retry-After"), "503 does not say Retry-After")
        self.in_text(check, "functions/adjust-stock/src/main.rs", "http::json(201,", "http::json(200,", "200 is in one", "201 is in one")
        self.in_text(check, "functions/get-order/src/main.rs", '"etag"', '"version"', "of 200, ETag")

    def test_problems(self):
        self.in_api("problems", "components schemas", lambda of: of.pop("NotStuckProblem"), "not-stuck")
        status = "components schemas NotStuckProblem properties"
        self.in_api("problems", status, lambda of: of.update(status={"const": 404}), "not-stuck has the status {409}")
        self.in_api("problems", status, lambda of: of.update(title={"const": "No"}), "not-stuck has the title")
        self.in_api("problems", "components schemas OutOfStockProblem properties", lambda of: of.update(lines=of.pop("items")), "lines is a member")
        create = "functions/create-order/src/main.rs"
        self.in_text("problems", create, '409, "out-of-stock"', '422, "out-of-stock"', "out-of-stock has the status {422}")
        self.in_text("problems", create, '"price-changed"', '"another-price"', "price-changed", "another-price")
        self.in_text("problems", f"{HTTP}/problem.rs", 'insert("instance"', 'insert("path"', "path is a member", "instance is a member")
        self.in_text("problems", "functions/skip-step/src/main.rs", '.with("found"', '.with("books"', "books is a member")

    def test_problems_of_an_operation(self):
        check, conflict = "problems_of_operations", "paths /api/v1/orders post responses 409 content application/problem+json"
        self.in_api(check, f"{conflict} schema oneOf", lambda of: of.pop(), "POST /api/v1/orders: out-of-stock")
        self.in_api(check, f"{conflict} examples", lambda of: of.pop("price-changed"), "POST /api/v1/orders shows no price-changed")
        self.in_api(check, "paths /api/v1/orders post responses", lambda of: of.update({"409": of.pop("422")}), "idempotency-key-reused is no 409")
        cancel = "functions/cancel-order/src/main.rs"
        self.in_text(check, cancel, "respond(id, &stream)", 'Err(Problem::new(423, "locked", "x", "y"))', "/cancel: locked")
        self.in_text(check, "functions/get-product/src/main.rs", "request.staff()?;", "request.json()?;", "malformed-body", "forbidden")
        self.in_text(check, "functions/skip-step/src/main.rs", "request.supervisor()?", "request.caller()?", "/fulfilment/skip: forbidden")

    def test_words(self):
        status = "components schemas OrderStatus enum"
        self.in_api("words", status, lambda of: of.append("lost"), "/schemas/OrderStatus is")
        order = f"{DOMAIN}order.rs"
        for path, before, after, word in [
            (order, 'Self::Paid => "paid"', 'Self::Paid => "charged"', "charged"),
            (order, '["expired", ', '["too_late", ', "the code too_late"),
            (order, '"send-confirmation"', '"tell-customer"', "/schemas/SkippableStep is"),
            (order, '"BooksCompared",\n    ];', '"BooksCompared", "OrderLost",\n    ];', "OrderLost"),
            (order, "Refund,\n}", "Refund,\n    Message,\n}", "/schemas/BooksCompared/properties/late/items is"),
            (f"{APPLICATION}figures.rs", '"close-order",', '"end-order",', "/schemas/Step is"),
            (f"{APPLICATION}figures.rs", '"fulfilment",\n    OTHER', '"fulfilment",\n    "pack-parcel",\n    OTHER', "pack-parcel"),
            (f"{APPLICATION}limits.rs", '"searches"', '"finds"', "/schemas/Limit is"),
            (f"{DOMAIN}order_view.rs", "NotRequired,\n}", "NotRequired,\n    Disputed,\n}", "disputed"),
            (f"{DOMAIN}books.rs", "Delivered,\n}", "Delivered,\n    Lost,\n}", "/schemas/ShipmentBook is"),
            (f"{HTTP}.rs", '=> "carrier"', '=> "parcel"', "the actor parcel"),
            ("functions/health/src/main.rs", '("limits", "LIMITS_TABLE")', '("buckets", "LIMITS_TABLE")', "buckets"),
            ("functions/skip-step/src/main.rs", '"status": "skipped"', '"status": "left"', "SkipAccepted says ['left']"),
            (f"{APPLICATION}timeline.rs", "BringParcel,\n", "BringParcel,\n    TakeParcelBack,\n", "/schemas/TimelineNext/properties/code is"),
            ("functions/console/assets/text.js", "  bring_parcel:", "  bring_parcels:", "no Chinese for bring_parcel"),
            (f"{APPLICATION}timeline.rs", "Nobody,\n}", "Nobody,\n    Provider,\n}", "/schemas/TimelineNext/properties/waits_for is"),
        ]:
            self.in_text("words", path, before, after, word)

    def test_bounds(self):
        for path, change, word in [
            ("components schemas Money properties amount", lambda of: of.update(maximum=2**53), "/schemas/Money/properties/amount has maximum"),
            ("components schemas ProductId", lambda of: of.update(pattern="^[A-Za-z0-9._ -]{1,64}$"), "/schemas/ProductId differs in ' '"),
            ("components schemas ProductId", lambda of: of.update(pattern="^[A-Za-z0-9._-]{1,65}$"), "/schemas/ProductId is not 1 to 64 long"),
            ("components schemas CustomerId", lambda of: of.update(pattern="^.{1,255}$"), "/schemas/CustomerId differs in"),
            ("components parameters To", lambda of: of.update(description="A month later."), "/parameters/To does not say '31 days'"),
        ]:
            self.in_api("bounds", path, change, word)
        for path, before, after, word in [
            (f"{DOMAIN}money.rs", "const MAX: u32 = 9_999", "const MAX: u32 = 999", "quantity has maximum 999"),
            (f"{DOMAIN}order/create.rs", "MAX: usize = 100", "MAX: usize = 50", "items has maxItems 50"),
            (f"{DOMAIN}ids.rs", "PaymentMethod, max 64", "PaymentMethod, max 128", "/schemas/PaymentMethod is not 1 to 128"),
            (f"{DOMAIN}ids.rs", "c == '_', \"letters", "matches!(c, '_' | '-'), \"letters", "/schemas/PaymentMethod differs in '-'"),
            (f"{DOMAIN}customer.rs", "MAX: usize = 254", "MAX: usize = 320", "email has maxLength 320"),
            (f"{HTTP}.rs", "128 * 1024", "64 * 1024", "'65,536 bytes'"),
            (f"{HTTP}.rs", "1..=128", "1..=64", "/schemas/CorrelationId is not 1 to 64"),
            (f"{HTTP}.rs", "b' '..=b'~' if byte != b','", "b' '..=b'~' if byte != b';'", "/schemas/IdempotencyKey differs in"),
            (f"{HTTP}/query.rs", "PAGE_SIZE_MAX: usize = 100", "PAGE_SIZE_MAX: usize = 500", "/parameters/PageSize/schema has maximum 500"),
            (f"{APPLICATION}list_events.rs", "TimeDelta::days(31)", "TimeDelta::days(7)", "'7 days'"),
            (f"{APPLICATION}timeline.rs", "ENTRIES_MAX: usize = 500", "ENTRIES_MAX: usize = 50", "entries has maxItems 50"),
            (f"{APPLICATION}search_orders.rs", "ROWS_MAX: usize = 1_000", "ROWS_MAX: usize = 500", "'first 500'"),
            (f"{APPLICATION}resume_orders.rs", "RESUMED_MAX: usize = 500", "RESUMED_MAX: usize = 50", "'at most 50'"),
            ("functions/get-order/src/main.rs", "[50, 100, 200, 400]", "[50, 100, 200, 800]", "'1150 ms'"),
            ("functions/resume-orders/src/main.rs", "IDS_MAX: usize = 100", "IDS_MAX: usize = 10", "order_ids has maxItems 10"),
            ("functions/list-orders/src/main.rs", "BOOKS_PAGE_MAX: usize = 10", "BOOKS_PAGE_MAX: usize = 5", "'5 at most'"),
            (f"{DOMAIN}ids.rs", '"pm_card_visa"', '"pm_invoice"', "without a payment_method there is pm_invoice"),
        ]:
            self.in_text("bounds", path, before, after, word)

    def test_fields_of_answers(self):
        check = "fields_of_answers"
        for path, change, word in [
            ("Order properties", lambda of: of.pop("attention"), "Order.attention is in one"),
            ("Order required", lambda of: of.remove("refunds"), "Order.refunds is always there"),
            ("OrderShipment properties", lambda of: of.update(delivered_at={"$ref": "#/components/schemas/Time"}), "delivered_at may be null"),
            ("Customer properties version", lambda of: of.update(type="string"), "Customer.version is integer"),
            ("ProviderHealth required", lambda of: of.remove("kind"), "ProviderHealth.kind is always there"),
            ("OrdersResumed properties", lambda of: of.pop("more"), "OrdersResumed is none of"),
            ("EventList properties events items properties", lambda of: of.pop("stream"), ".stream is in one"),
            ("ListedOrders properties orders items properties", lambda of: of.pop("attention"), ".attention is in one"),
            ("PastEvent properties command_id", lambda of: of.pop("format"), "command_id is uuid"),
        ]:
            self.in_api(check, f"components schemas {path}", change, word)
        for path, before, after, word in [
            (f"{DOMAIN}order_view.rs", "pub tracking_number: String,", "pub tracking_number: Option<String>,", "tracking_number may be null"),
            (f"{DOMAIN}order_view.rs", "pub refunds: Vec<RefundView>,", "pub refunds: Vec<RefundView>,\n    pub weight: u32,", "Order.weight"),
            (f"{DOMAIN}product.rs", "pub stock: u32,", "pub left: u32,", "Product.left is in one"),
            ("functions/search-orders/src/main.rs", "customer: &'f CustomerView,", "", ".customer is in one"),
            (f"{APPLICATION}timeline.rs", "pub by: Option<DateTime<Utc>>,", "pub until: Option<DateTime<Utc>>,", "TimelineNext.by is in one"),
            (f"{APPLICATION}timeline.rs", "pub tries: Option<Tries>,", "", "Timeline.tries is in one"),
            (f"{APPLICATION}ports/fulfilment.rs", "pub rounds: usize,", "pub rounds: String,", "TimelineTries.rounds is string"),
            ("functions/list-orders/src/main.rs", "books_agree: Option<bool>,\n}", "agree: Option<bool>,\n}", ".books_agree is in one"),
            ("functions/get-timeline/src/main.rs", "version: u64,", "events: u64,", "Timeline.events is in one"),
            ("functions/get-ledger/src/main.rs", '"agrees": order', '"equal": order', "Ledger is none of"),
        ]:
            self.in_text(check, path, before, after, word)

    def test_fields_of_requests(self):
        check = "fields_of_requests"
        for path, change, word in [
            ("PlaceOrder properties", lambda of: of.pop("payment_method"), "PlaceOrder.payment_method is in one"),
            ("PlaceOrder required", lambda of: of.append("payment_method"), "PlaceOrder.payment_method is not required"),
            ("PlaceOrder", lambda of: of.pop("additionalProperties"), "PlaceOrder may have other fields"),
            ("Reason", lambda of: of.update(maxLength=100), "CancelOrder.reason has at most 500"),
            ("Address properties city", lambda of: of.update(type="string"), "Address.city is null in one"),
            ("PutCustomer properties first_name", lambda of: of.pop("minLength"), "PutCustomer.first_name is empty"),
        ]:
            self.in_api(check, f"components schemas {path}", change, word)
        for path, before, after, word in [
            ("functions/create-order/src/main.rs", "street: Text<200>,", "street: Text<300>,", "Address.street has at most 300"),
            ("functions/put-product/src/main.rs", "    #[deserr(default)]\n    stock: Option<u32>,", "    stock: u32,", "PutProduct.stock is required"),
            ("functions/skip-step/src/main.rs", "error = FieldErrors, deny_unknown_fields", "error = FieldErrors", "SkipStep may have"),
            ("functions/adjust-stock/src/main.rs", "counted: Option<u32>,", "count: Option<u32>,", "AdjustStock.count is in one"),
            (f"{DOMAIN}order.rs", "type StaffNote = Text<500>", "type StaffNote = Text<900>", "a reason or note has"),
        ]:
            self.in_text(check, path, before, after, word)

    def test_events(self):
        hook = "webhooks OrderRejected post requestBody content application/json schema properties detail"
        for path, change, word in [
            ("webhooks", lambda of: of.pop("OrderFlagged"), "the event OrderFlagged is in one"),
            ("components schemas WhatHappened oneOf", lambda of: of.pop(), "CustomerProfileUpdated is in one of webhooks"),
            (f"{hook} properties metadata properties schema", lambda of: of.update(enum=[1]), "OrderRejected has 2 versions"),
            (f"{hook} properties metadata properties personal", lambda of: of.update(const=["reason"]), "OrderRejected has other personal"),
            (hook, lambda of: of.pop("else"), "OrderRejected has ['notification_id'] from version 2"),
            ("components schemas OrderRejected required", lambda of: of.append("notification_id"), "notification_id is not always there"),
            ("components schemas ShipmentCreated properties", lambda of: of.pop("carrier"), "ShipmentCreated.carrier is in one"),
            ("components schemas BusEvent properties source", lambda of: of.update(const="orders"), "the source is order-service"),
        ]:
            self.in_api("events", path, change, word)
        order = f"{DOMAIN}order.rs"
        for before, after, word in [
            ("    PaymentNotRequired {},\n    Books", "    PaymentWaived {},\n    Books", "PaymentWaived"),
            ("pub carrier: String,", "pub carrier: String,\n    pub weight: u64,", "ShipmentCreated.weight"),
            ('"FulfilmentResumed" => &[|', '"FulfilmentResumed" => &[|data| with_field(data, "by", 1), |', "FulfilmentResumed has 3 versions"),
            ('"ShipmentCreated" => &["tracking_number"]', '"ShipmentCreated" => &[]', "ShipmentCreated has other personal"),
        ]:
            self.in_text("events", order, before, after, word)

    def test_stored_events(self):
        check, lines = "stored_events_are_what_the_bus_says", f"{DOMAIN}order/events.golden.jsonl"
        self.in_api(check, "components schemas OrderCreated properties", lambda of: of.pop("payment_method"), "'payment_method' was unexpected")
        self.in_api(check, "components schemas StepSkipped required", lambda of: of.append("found"), "'found' is a required property")
        self.in_api(check, "webhooks", lambda of: of.pop("RefundFailed"), "nobody is told of RefundFailed")
        self.in_api(check, "components schemas BusEvent properties detail", lambda of: of.pop("else"), "and nobody says so")
        self.in_text(check, lines, '"reservation_id":"r-1"', '"reservation":"r-1"', "'reservation_id' is a required property")
        self.in_text(check, lines, '"schema":2,"data":{"reason":"changed my mind","note":null}', '"schema":2,"data":{"reason":"x"}', "'note' is a required")

    def test_samples(self):
        for path, before, after, word in [
            ("events/create-order.json", '\\"quantity\\": 2', '\\"quantity\\": 0', "0 is less than the minimum of 1"),
            ("events/create-order.json", "sample-key", "sample,key", "idempotency-key may not be sample,key"),
            ("events/list-events.json", "type=OrderCreated", "type=OrderLost", "type may not be OrderLost"),
            ("events/list-events.json", "&page_size=2", "&size=2", "size is no parameter of the query"),
            ("events/get-order.json", '"order_id": "0197', '"order_id": "x0197', "order_id may not be"),
            ("events/search-orders.json", "[staff]", "[carrier]", "its caller may not"),
            ("events/metrics.json", "orders/metrics", "orders/carrier", "its caller may not"),
            ("events/health.json", "GET /health", "GET /well", "is for no route"),
            ("events/search-orders.json", "q=Wang&", "", "q is not there"),
        ]:
            self.in_text("samples", path, before, after, word)
        self.in_api("samples", "components schemas RequestRefund required", lambda of: of.append("note"), "'note' is a required property")

    def test_pages(self):
        self.in_text("errors_page", "docs/errors.md", "| `not-stuck` | 409 |", "| `not-stuck` | 404 |", "('not-stuck', '404')")
        self.in_api("errors_page", "components schemas", lambda of: of.pop("ForbiddenProblem"), "('forbidden', '403')")
        self.in_text("events_page", "docs/events.md", "| `StepSkipped` | 2 |", "| `StepSkipped` | 1 |", "StepSkipped is (2,")
        self.in_text("events_page", "docs/events.md", "`undo`, `refund` | `reason` |", "`undo` | `reason` |", "FulfilmentResumed is")
        self.in_text("events_page", "docs/events.md", "| `causation_id` |", "| `cause` |", "metadata.cause is", "metadata.causation_id is")
        self.in_api("events_page", "webhooks", lambda of: of.pop("RefundFailed"), "RefundFailed is in one")
        self.in_text("api_page", "docs/api.md", "| `GET /metrics` |", "| `GET /figures` |", "GET /figures", "GET /metrics")
        self.in_text("api_page", "docs/api.md", "| staff | `searches` |", "| anyone | `searches` |", "GET /api/v1/orders/search is for")


if __name__ == "__main__":
    unittest.main()

"""Holds what is written of the provider contract to itself: the proto files, openapi.yaml, the README, and the tables in Rust.

The proto files are the contract. Whoever implements it in JSON reads openapi.yaml and never a proto file, so that the one must say
what the other says: each call, each message, each field, each limit. Every check is also shown a contract that has been spoiled,
and has to find it.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/provider_contract_suite.py
"""
from __future__ import annotations

import copy
import functools
import re
import unittest
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = ROOT / "api/providers/v1"
PACKAGE = "orders.providers.v1"
SCALARS = {"string": "string", "bool": "boolean", "int64": "integer", "uint32": "integer"}  # by what JSON calls them
DEFAULTS = {"string": "", "bool": False, "int64": 0, "uint32": 0}
UINT32 = (0, 2**32 - 1)
COMMON = "GetCapabilities"  # every service has it; in Rust it has a table of its own, because it is one message for all of them

# ---------------------------------------------------------------- the proto files


@dataclass
class Field:
    name: str
    kind: str
    repeated: bool = False
    optional: bool = False  # none at all is told from the default
    one_of: str | None = None
    comment: str = ""


@dataclass
class Proto:
    messages: dict[str, list[Field]] = field(default_factory=dict)
    calls: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # (service, call): (request, answer)

    def one_ofs(self) -> dict[str, list[str]]:
        """Their fields, by `Message.one_of`."""
        found: dict[str, list[str]] = {}
        for message, fields in self.messages.items():
            for of in fields:
                if of.one_of:
                    found.setdefault(f"{message}.{of.one_of}", []).append(of.name)
        return found


class Reader:
    """Of the part of proto3 that the contract uses. It refuses the rest, so that nothing is overlooked."""

    def __init__(self, text: str, into: Proto):
        self.tokens = re.findall(r'//[^\n]*|"[^"]*"|[\w.]+|\S', text)
        self.into, self.comment = into, ""

    def next(self) -> str:
        comments = []
        while self.tokens and self.tokens[0].startswith("//"):
            comments.append(self.tokens.pop(0).removeprefix("//").strip())
        self.comment = " ".join(comments)
        return self.tokens.pop(0) if self.tokens else ""

    def expect(self, *expected: str) -> None:
        for one in expected:
            found = self.next()
            if found != one:
                raise SyntaxError(f"{one} was expected, and there is {found!r}")

    def word(self) -> str:
        found = self.next()
        if not re.fullmatch(r"[A-Za-z]\w*", found):
            raise SyntaxError(f"a name was expected, and there is {found!r}")
        return found

    def file(self) -> None:
        self.expect("syntax", "=", '"proto3"', ";", "package", PACKAGE, ";")
        while word := self.next():
            if word == "import":
                self.next()
                self.expect(";")
            elif word == "service":
                self.service()
            elif word == "message":
                self.message()
            else:
                raise SyntaxError(f"this reads no {word!r}")

    def service(self) -> None:
        name = self.word()
        self.expect("{")
        while (word := self.next()) != "}":
            if word != "rpc":
                raise SyntaxError(f"a call was expected, and there is {word!r}")
            call = self.word()
            self.expect("(")
            request = self.word()
            self.expect(")", "returns", "(")
            answer = self.word()
            self.expect(")", ";")
            self.into.calls[name, call] = request, answer

    def message(self) -> None:
        name, fields = self.word(), []
        if name in self.into.messages:
            raise SyntaxError(f"{name} is there twice")
        self.into.messages[name] = fields
        self.expect("{")
        while (word := self.next()) != "}":
            if word == "oneof":
                one_of = self.word()
                self.expect("{")
                while (kind := self.next()) != "}":
                    fields.append(self.field(kind, one_of=one_of))
            elif word == "repeated":
                comment, kind = self.comment, self.word()
                fields.append(self.field(kind, repeated=True, comment=comment))
            elif word == "optional":
                comment, kind = self.comment, self.word()
                fields.append(self.field(kind, optional=True, comment=comment))
            else:
                fields.append(self.field(word))

    def field(self, kind: str, comment: str | None = None, **more) -> Field:
        comment = self.comment if comment is None else comment
        name = self.word()
        self.expect("=")
        if not self.next().isdigit():
            raise SyntaxError(f"{name} has no number")
        self.expect(";")
        return Field(name, kind, comment=comment, **more)


def read_proto(*texts: str) -> Proto:
    proto = Proto()
    for text in texts:
        Reader(text, proto).file()
    for message, fields in proto.messages.items():
        for of in fields:
            if of.kind not in SCALARS and of.kind not in proto.messages:
                raise SyntaxError(f"{message}.{of.name} is of a kind that is nowhere: {of.kind}")
    return proto


# ---------------------------------------------------------------- the tables in Rust


@dataclass
class Call:
    service: str
    name: str
    path: str
    request: str
    answer: str
    key: str | None


def read_calls(text: str) -> list[Call]:
    table = text[text.index("\ncalls! {"):]
    calls, service = [], ""
    for line in table[:table.index("\n}")].splitlines()[2:]:
        if found := re.fullmatch(r'\s*"(\w+)" \{', line):
            service = found[1]
        elif found := re.fullmatch(r'\s*"(\w+)"\s+"([a-z/-]+)"\s+(\w+) -> (\w+)(?: by (\w+))?;', line):
            calls.append(Call(service, found[1], f"/v1/{found[2]}", found[3], found[4], found[5]))
        elif line.strip() != "}":
            raise SyntaxError(f"no call of the contract: {line}")
    return calls


def read_one_ofs(text: str) -> list[str]:
    lists = re.findall(r"const ONE_OF\w*: \[&str; \d+\] = \[(.*?)\];", text, re.DOTALL)
    return re.findall(r'"([\w.]+)"', " ".join(lists))


# ---------------------------------------------------------------- openapi.yaml


class Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: the first would be lost, and nobody would know."""

    def construct_mapping(self, node, deep=False):
        twice = [key for key, count in Counter(key.value for key, _ in node.value).items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def walk(node, path: str = "#"):
    """Every object, and where it is."""
    if isinstance(node, dict):
        yield path, node
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from walk(child, f"{path}/{key}")


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


@dataclass
class Contract:
    """All that is written of it. `findings` are what one part says and another does not."""

    proto: Proto
    api: dict
    calls: list[Call]
    one_ofs: list[str]
    readme: str

    @property
    def schemas(self) -> dict:
        return self.api["components"]["schemas"]

    def resolved(self, reference: str):
        node = self.api
        for part in reference.removeprefix("#/").split("/"):
            node = node.get(part) if isinstance(node, dict) else None
        return node

    def validator(self, schema: dict) -> Draft202012Validator:
        return Draft202012Validator(schema | {"components": self.api["components"]})

    # Calls.

    def calls_of_the_proto_files(self) -> list[str]:
        declared = {(service, call): messages for (service, call), messages in self.proto.calls.items() if call != COMMON}
        table = {(call.service, call.name): (call.request, call.answer) for call in self.calls}
        found = [f"{call} is not the same in proto and Rust" for call in declared.keys() | table.keys()
                 if declared.get(call) != table.get(call)]
        found += [f"{service} has no {COMMON}" for service, _ in declared if (service, COMMON) not in self.proto.calls]
        return found + [f"{call.name} is at {call.path}" for call in self.calls
                        if call.path != f"/v1/{call.service.lower()}/{kebab(call.name)}"]

    def calls_of_the_api(self) -> list[str]:
        services = {service for service, _ in self.proto.calls}
        common = [Call(service, COMMON, f"/v1/{service.lower()}/{kebab(COMMON)}", f"{COMMON}Request", f"{COMMON}Response", None)
                  for service in services]
        expected = {call.path: call for call in [*self.calls, *common]}
        found = [f"{path} is in one of the two only" for path in expected.keys() ^ self.api["paths"].keys()]
        for path in expected.keys() & self.api["paths"].keys():
            found += [f"{path}: {problem}" for problem in self.problems_of(expected[path], self.api["paths"][path])]
        names = [operation["operationId"] for path in self.api["paths"].values() for operation in path.values()]
        found += [f"two calls are named {name}" for name, count in Counter(names).items() if count > 1]
        tags = {tag["name"] for tag in self.api["tags"]}
        return found + [f"the tag {tag} is in one of the two only" for tag in tags ^ services]

    def problems_of(self, call: Call, item: dict):
        if item.keys() != {"post"}:
            yield f"is not a POST only: {sorted(item)}"
            return
        post = item["post"]
        if post.get("tags") != [call.service] or post.get("operationId") != f"{call.service}_{call.name}":
            yield "is named after something else"
        body, answer = post["requestBody"], post["responses"].get("200", {})
        if not body.get("required"):
            yield "the request may be left out"
        for what, content, message in [("request", body, call.request), ("answer", answer, call.answer)]:
            content = content.get("content", {})
            if content.keys() != {"application/json"}:
                yield f"the {what} is not application/json only"
            elif content["application/json"].get("schema") != {"$ref": f"#/components/schemas/{message}"}:
                yield f"the {what} is no {message}"
        if post["responses"].keys() != {"200", "400", "401", "429", "500", "503", "504"}:
            yield f"the answers are {sorted(post['responses'])}"
        headers = {"x-correlation-id", "traceparent"} | ({"idempotency-key"} if call.key else set())
        parameters = [self.resolved(parameter["$ref"]) or {} for parameter in post["parameters"]]
        if {parameter.get("name") for parameter in parameters} != headers:
            yield f"the headers are not {sorted(headers)}"
        if re.findall(r"Idempotency key: `(\w+)`", post.get("description", "")) != [call.key] * bool(call.key):
            yield f"the description does not say that the key is {call.key}"
        if call.key and call.key not in [of.name for of in self.proto.messages.get(call.request, [])]:
            yield f"the key {call.key} is no field"

    def keys_of_the_readme(self) -> list[str]:
        """The README's table of what a repeated call gets."""
        rows = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", self.readme, re.MULTILINE))
        keyed = {(call.name, call.key) for call in self.calls if call.key}
        return [f"{row} is in one of the two only" for row in rows ^ keyed]

    # Messages.

    def messages(self) -> list[str]:
        """An object is a message. A text may have a name of its own, so that its limits are written once."""
        objects = {name for name, schema in self.schemas.items() if schema.get("type") == "object"}
        found = [f"the message {name} is in one of the two only" for name in objects ^ self.proto.messages.keys()]
        texts = self.schemas.keys() - objects
        found += [f"{name} is neither a message nor a text" for name in texts if self.schemas[name].get("type") != "string"]
        used = {node["$ref"] for _, node in walk(self.api) if isinstance(node.get("$ref"), str)}
        return found + [f"nothing refers to {name}" for name in self.schemas if f"#/components/schemas/{name}" not in used]

    def fields(self) -> list[str]:
        found = []
        for message, fields in self.proto.messages.items():
            properties = self.schemas.get(message, {}).get("properties", {})
            found += [f"{message}.{name} is in one of the two only" for name in {of.name for of in fields} ^ properties.keys()]
            for of in fields:
                if of.name in properties and not self.is_of_kind(of, properties[of.name]):
                    found.append(f"{message}.{of.name} is of another kind: {properties[of.name]}")
        return found

    def is_of_kind(self, of: Field, schema: dict) -> bool:
        if of.repeated:
            return schema.get("type") == "array" and self.is_of_kind(Field(of.name, of.kind), schema.get("items", {}))
        if of.kind in self.proto.messages:
            reference = {"$ref": f"#/components/schemas/{of.kind}"}
            return schema.get("$ref") == reference["$ref"] or schema.get("anyOf") == [reference, {"type": "null"}]
        text = self.whole(schema)
        if of.kind == "int64" and text.get("format") != "int64":
            return False
        if of.kind == "uint32" and not UINT32[0] <= text.get("minimum", -1) <= text.get("maximum", UINT32[1] + 1) <= UINT32[1]:
            return False
        return text.get("type") == SCALARS[of.kind]

    def whole(self, schema: dict) -> dict:
        """With what it refers to."""
        return (self.resolved(schema["$ref"]) or {}) | schema if "$ref" in schema else schema

    def one_of_each(self) -> list[str]:
        expected = self.proto.one_ofs()
        found = [f"{name} is listed twice" for name, count in Counter(self.one_ofs).items() if count > 1]
        found += [f"{name} is in one of proto and build.rs only" for name in expected.keys() ^ set(self.one_ofs)]
        in_message = {}
        for name, members in expected.items():
            message = name.split(".")[0]
            if message in in_message:
                found.append(f"{message} has two of them, which no oneOf says")
            in_message[message] = [{"required": [member]} for member in members]
        return found + [f"the oneOf of {name} is not that of the proto file" for name, schema in self.schemas.items()
                        if schema.get("oneOf") != in_message.get(name)]

    def required(self) -> list[str]:
        """What is left out is the default. So a field has to be there just when its default would be wrong."""
        found = []
        for message, fields in self.proto.messages.items():
            schema = self.schemas.get(message, {})
            properties, required = schema.get("properties", {}), schema.get("required", [])
            found += [f"{message} requires {name}, which it has not" for name in set(required) - properties.keys()]
            for of in fields:
                if of.name in properties and not of.one_of:
                    default = [] if of.repeated else None if of.optional else DEFAULTS.get(of.kind)
                    needed = not self.validator(properties[of.name]).is_valid(default)
                    if needed != (of.name in required):
                        found.append(f"{message}.{of.name} {'has' if needed else 'need not'} to be there")
        return found

    def limits(self) -> list[str]:
        """What a comment in the proto file says of a field."""
        found = []
        for message, fields in self.proto.messages.items():
            for of in fields:
                schema = self.whole(self.schemas.get(message, {}).get("properties", {}).get(of.name, {}))
                for what, holds in self.said_of(of, schema):
                    if not holds:
                        found.append(f"{message}.{of.name} is not {what}: {schema}")
        return found

    def said_of(self, of: Field, schema: dict):
        if "UUID" in of.comment:
            yield "a UUID", schema.get("format") == "uuid"
        if "RFC 3339" in of.comment:
            yield "a time", schema.get("format") == "date-time"
        if said := re.search(r"([Ff]rom )?(\d+) to (\d+)( visible characters| characters|\.|,)", of.comment):
            least, most = int(said[2]), int(said[3])
            if "characters" in said[4]:
                yield f"{said[2]} to {said[3]} characters", (schema.get("minLength"), schema.get("maxLength")) == (least, most)
                yield "visible", "visible" not in said[4] or not self.validator(schema).is_valid(" x")
            elif of.kind in ("int64", "uint32"):
                yield f"from {least} to {most}", (schema.get("minimum"), schema.get("maximum")) == (least, most)
        if said := re.search(r"1 to (\d+) (letters, digits and ([. _-]+)|printable ASCII characters)", of.comment):
            longest, others = int(said[1]), said[3].split() if said[3] else [" ", "~"]
            check = self.validator(schema).is_valid
            yield f"up to {longest} long", check("a" * longest) and not check("a" * (longest + 1)) and not check("")
            yield f"of {others}", all(check(f"aZ9{other}") for other in others) and not check("é") and not check("a\tb")
        if "Three upper-case letters" in of.comment or "alpha-2" in of.comment:
            check, length = self.validator(schema).is_valid, 3 if "Three" in of.comment else 2
            yield "upper-case letters", check("A" * length) and not any(map(check, ["a" * length, "A" * (length + 1), "A", ""]))
        if of.comment.startswith("Not there"):
            yield "one that may be left out", "anyOf" in schema

    # The form.

    def references(self) -> list[str]:
        return [f"{path} refers to what is not there: {node['$ref']}" for path, node in walk(self.api)
                if isinstance(node.get("$ref"), str) and not self.resolved(node["$ref"])]

    def forms(self) -> list[str]:
        found = [] if self.api.get("openapi", "").startswith("3.1.") else ["this is not OpenAPI 3.1"]
        for name, schema in self.schemas.items():
            check = Draft202012Validator(Draft202012Validator.META_SCHEMA)
            found += [f"{name}: {error.message}" for error in check.iter_errors(schema)]
        return found

    def examples(self) -> list[str]:
        """Each is a message, and has no field that the message has not: a name that is misspelt would else be ignored."""
        components = copy.deepcopy(self.api["components"])
        for schema in components["schemas"].values():
            if schema.get("type") == "object":
                schema["additionalProperties"] = False
        found = []
        for path, node in walk(self.api):
            if "schema" not in node:
                continue
            examples = [node["example"]] if "example" in node else []
            examples += [example["value"] for example in node.get("examples", {}).values()]
            if "application/json" in path and not examples:
                found.append(f"{path} has no example")
            check = Draft202012Validator(node["schema"] | {"components": components})
            found += [f"{path}: {error.message} at {error.json_path}" for example in examples for error in check.iter_errors(example)]
        return found

    def outcomes_in_examples(self) -> list[str]:
        """Where a call has outcomes, the first example is the one that is hoped for, and there are others."""
        found = []
        for path, item in self.api["paths"].items():
            content = item["post"]["responses"]["200"]["content"]["application/json"]
            schema, shown = self.resolved(content["schema"]["$ref"]) or {}, list(content.get("examples", {}).values())
            if "oneOf" in schema and (len(shown) < 2 or list(shown[0]["value"]) == list(shown[1]["value"])):
                found.append(f"{path} shows one outcome only")
        return found


CHECKS = ["calls_of_the_proto_files", "calls_of_the_api", "keys_of_the_readme", "messages", "fields", "one_of_each", "required",
          "limits", "references", "forms", "examples", "outcomes_in_examples"]


@functools.cache
def as_it_is_written() -> Contract:
    return Contract(
        proto=read_proto(*(path.read_text() for path in sorted(CONTRACT.glob("*.proto")))),
        api=yaml.load((CONTRACT / "openapi.yaml").read_text(), Loader),
        calls=read_calls((ROOT / "shared/providers/src/contract.rs").read_text()),
        one_ofs=read_one_ofs((ROOT / "shared/providers/build.rs").read_text()),
        readme=(CONTRACT / "README.md").read_text(),
    )


def contract() -> Contract:
    """A copy, which may be spoiled."""
    return copy.deepcopy(as_it_is_written())


# ---------------------------------------------------------------- what is there


class Written(unittest.TestCase):
    def test_every_part_says_the_same(self):
        written = contract()
        for check in CHECKS:
            with self.subTest(check):
                self.assertEqual(getattr(written, check)(), [])

    def test_everything_is_read(self):
        """A reader that finds nothing finds nothing wrong."""
        written = contract()
        self.assertEqual({service for service, _ in written.proto.calls}, {"Inventory", "Payments", "Shipping", "Notifications"})
        self.assertGreaterEqual(len(written.calls), 17)
        self.assertGreaterEqual(len(written.proto.messages), 60)
        self.assertGreaterEqual(len(written.one_ofs), 11)
        said = [what for message, fields in written.proto.messages.items() for of in fields
                for what, _ in written.said_of(of, written.whole(written.schemas[message]["properties"][of.name]))]
        self.assertGreaterEqual(len(said), 25, "the comments say their limits in other words")

    def test_the_files_are_such_as_people_read(self):
        for path in CONTRACT.iterdir():
            with self.subTest(path.name):
                long = [line for line in path.read_text().splitlines() if len(line) > 150 and not line.startswith("|")]
                self.assertEqual(long, [])


# ---------------------------------------------------------------- what would be found


class Spoiled(unittest.TestCase):
    def assert_found(self, check: str, spoil, *words: str):
        """A copy that has been spoiled is found out by this check, which says where."""
        written = contract()
        self.assertEqual(getattr(written, check)(), [])
        spoil(written)
        found = " ".join(getattr(written, check)())
        for word in words:
            self.assertIn(word, found, check)

    def test_a_call(self):
        def rename(written):
            written.proto.calls["Payments", "Take"] = written.proto.calls.pop(("Payments", "Charge"))
        self.assert_found("calls_of_the_proto_files", rename, "Take", "Charge")
        def another_answer(written):
            written.proto.calls["Payments", "Charge"] = "ChargeRequest", "RefundResponse"
        self.assert_found("calls_of_the_proto_files", another_answer, "Charge")
        self.assert_found("calls_of_the_proto_files", lambda written: written.proto.calls.pop(("Shipping", COMMON)), "Shipping has no")
        def elsewhere(written):
            written.calls[0].path = "/v1/inventory/products"
        self.assert_found("calls_of_the_proto_files", elsewhere, "/v1/inventory/products")
        self.assert_found("calls_of_the_api", elsewhere, "/v1/inventory/products", "/v1/inventory/get-products")

    def test_an_operation(self):
        def in_charge(change):
            return lambda written: change(written.api["paths"]["/v1/payments/charge"]["post"])
        for change, word in [
            (lambda post: post.update(tags=["Shipping"]), "named after something else"),
            (lambda post: post.update(operationId="Payments_Refund"), "two calls are named Payments_Refund"),
            (lambda post: post["requestBody"].update(required=False), "may be left out"),
            (lambda post: post["requestBody"]["content"].update({"text/plain": {}}), "not application/json only"),
            (lambda post: post["requestBody"]["content"]["application/json"]["schema"].update({"$ref": "#/x"}), "no ChargeRequest"),
            (lambda post: post["responses"]["200"]["content"]["application/json"]["schema"].update({"$ref": "#/x"}), "no ChargeResponse"),
            (lambda post: post["responses"].pop("503"), "the answers are"),
            (lambda post: post["responses"].update({"404": {}}), "the answers are"),
            (lambda post: post["parameters"].pop(0), "the headers are not"),
            (lambda post: post.update(description="Charges."), "does not say that the key"),
        ]:
            self.assert_found("calls_of_the_api", in_charge(change), word)
        def get(written):
            item = written.api["paths"]["/v1/payments/get-ledger"]
            item["get"] = item["post"]
        self.assert_found("calls_of_the_api", get, "not a POST only")
        def no_such_key(written):
            next(call for call in written.calls if call.name == "Charge").key = "charge_key"
        self.assert_found("calls_of_the_api", no_such_key, "is no field")
        self.assert_found("calls_of_the_api", lambda written: written.api["paths"].pop("/v1/shipping/get-capabilities"), "get-capabilities")
        self.assert_found("calls_of_the_api", lambda written: written.api["tags"].pop(), "tag")

    def test_a_key_in_the_readme(self):
        def other(written):
            written.readme = written.readme.replace("| `Charge` | `idempotency_key` |", "| `Charge` | `order_id` |")
        self.assert_found("keys_of_the_readme", other, "('Charge', 'order_id')", "('Charge', 'idempotency_key')")

    def test_a_message(self):
        self.assert_found("messages", lambda written: written.schemas.pop("TooMuch"), "TooMuch")
        self.assert_found("messages", lambda written: written.proto.messages.pop("TooMuch"), "TooMuch")
        self.assert_found("messages", lambda written: written.schemas.update(Count={"type": "integer"}), "Count is neither", "refers to Count")

    def test_a_field(self):
        def properties(change, message="ChargeRequest"):
            return lambda written: change(written.schemas[message]["properties"])
        for change, message, word in [
            (lambda of: of.pop("order_id"), "ChargeRequest", "ChargeRequest.order_id is in one"),
            (lambda of: of.update(note={"type": "string"}), "ChargeRequest", "ChargeRequest.note is in one"),
            (lambda of: of["payment_method"].update(type="integer"), "ChargeRequest", "another kind"),
            (lambda of: of["amount"].update({"$ref": "#/components/schemas/Line"}), "ChargeRequest", "another kind"),
            (lambda of: of["amount"].update(type="string"), "Money", "another kind"),
            (lambda of: of["amount"].pop("format"), "Money", "another kind"),
            (lambda of: of["stock"].update(maximum=2**32), "Product", "another kind"),
            (lambda of: of["stock"].pop("minimum"), "Product", "another kind"),
            (lambda of: of["created"].update(type="string"), "PutProductResponse", "another kind"),
            (lambda of: of.update(lines=of["lines"]["items"]), "ReserveRequest", "another kind"),
            (lambda of: of["lines"].update(items={"type": "string"}), "ReserveRequest", "another kind"),
            (lambda of: of["capabilities"].update(items={"type": "integer"}), "GetCapabilitiesResponse", "another kind"),
            (lambda of: of.pop("declined"), "ChargeResponse", "ChargeResponse.declined is in one"),
        ]:
            self.assert_found("fields", properties(change, message), word)

    def test_a_one_of(self):
        self.assert_found("one_of_each", lambda written: written.one_ofs.remove("LedgerEntry.entry"), "LedgerEntry.entry")
        self.assert_found("one_of_each", lambda written: written.one_ofs.append("Money.amount"), "Money.amount")
        self.assert_found("one_of_each", lambda written: written.one_ofs.append("LedgerEntry.entry"), "twice")
        self.assert_found("one_of_each", lambda written: written.schemas["ChargeResponse"]["oneOf"].pop(), "ChargeResponse")
        self.assert_found("one_of_each", lambda written: written.schemas["ChargeResponse"].pop("oneOf"), "ChargeResponse")
        self.assert_found("one_of_each", lambda written: written.schemas["Money"].update(oneOf=[{"required": ["amount"]}]), "Money")
        def two(written):
            written.proto.messages["ChargeResponse"].append(Field("later", "bool", one_of="more"))
        self.assert_found("one_of_each", two, "has two of them", "ChargeResponse.more")

    def test_what_has_to_be_there(self):
        self.assert_found("required", lambda written: written.schemas["Money"]["required"].remove("amount"), "Money.amount has")
        self.assert_found("required", lambda written: written.schemas["Money"]["required"].remove("currency"), "Money.currency has")
        self.assert_found("required", lambda written: written.schemas["Money"]["required"].append("unit"), "requires unit")
        self.assert_found("required", lambda written: written.schemas["OutOfStock"].pop("required"), "OutOfStock.shortages has")
        self.assert_found("required", lambda written: written.schemas["ChargeRequest"]["required"].remove("amount"), "amount has")
        self.assert_found("required", lambda written: written.schemas["GetRefundResponse"].update(required=["refund"]), "refund need not")

    def test_a_limit(self):
        for name, change, word in [
            ("Uuid", {"format": "uri"}, "idempotency_key is not a UUID"),
            ("Time", {"format": "date"}, "processed_at is not a time"),
            ("ProviderId", {"maxLength": 201}, "1 to 200 characters"),
            ("ProviderId", {"pattern": "."}, "not visible"),
            ("Word", {"minLength": 0}, "Refused.reason is not 1 to 100"),
            ("ProductName", {"maxLength": 100}, "Product.name is not 1 to 200"),
            ("ProductId", {"pattern": "^[A-Za-z0-9._-]{1,63}$"}, "up to 64"),
            ("ProductId", {"pattern": "^[A-Za-z0-9._]{1,64}$"}, "Line.product_id is not of"),
            ("CustomerId", {"pattern": "^[!-~]{1,255}$"}, "ChargeRequest.customer_id is not of"),
        ]:
            self.assert_found("limits", lambda written: written.schemas[name].update(change), word)
        for message, name, change, word in [
            ("Money", "amount", {"maximum": 2**53}, "from 0 to 9007199254740991"),
            ("Money", "currency", {"pattern": "^[A-Z]{3,4}$"}, "upper-case"),
            ("Address", "country", {"pattern": "^[A-Za-z]{2}$"}, "upper-case"),
            ("Line", "quantity", {"maximum": 10_000}, "from 1 to 9999"),
            ("AdjustStockRequest", "reason", {"maxLength": 501}, "1 to 500"),
            ("ChargeRequest", "payment_method", {"pattern": "^[a-z0-9_]{1,64}$"}, "payment_method"),
        ]:
            self.assert_found("limits", lambda written: written.schemas[message]["properties"][name].update(change), word)
        def always_there(written):
            written.schemas["GetRefundResponse"]["properties"]["refund"] = {"$ref": "#/components/schemas/IssuedRefund"}
        self.assert_found("limits", always_there, "may be left out")

    def test_a_reference(self):
        def nowhere(written):
            written.schemas["Payment"]["properties"]["amount"]["$ref"] = "#/components/schemas/Amount"
        self.assert_found("references", nowhere, "#/components/schemas/Amount")
        self.assert_found("references", lambda written: written.api["components"]["responses"].pop("TimedOut"), "TimedOut")

    def test_a_form(self):
        self.assert_found("forms", lambda written: written.api.update(openapi="3.0.3"), "3.1")
        self.assert_found("forms", lambda written: written.schemas["Money"].update(required="currency"), "Money")

    def test_an_example(self):
        def of_charge(change):
            def spoil(written):
                post = written.api["paths"]["/v1/payments/charge"]["post"]
                request = post["requestBody"]["content"]["application/json"]
                change(request, post["responses"]["200"]["content"]["application/json"]["examples"])
            return spoil
        for change, word in [
            (lambda request, answers: request["example"].pop("amount"), "'amount' is a required property"),
            (lambda request, answers: request["example"].update(amount_due=1), "amount_due"),
            (lambda request, answers: request["example"]["amount"].update(amount="3998"), "'3998' is not of type 'integer'"),
            (lambda request, answers: request["example"].update(order_id="1"), "does not match"),
            (lambda request, answers: request.pop("example"), "has no example"),
            (lambda request, answers: answers["charged"]["value"].update(declined={"reason": "x"}), "valid under each of"),
            (lambda request, answers: answers["charged"]["value"].clear(), "not valid under any of"),
            (lambda request, answers: answers["charged"]["value"]["charged"].update(processed_at="now"), "does not match"),
            (lambda request, answers: answers["cancelled"]["value"]["cancelled"].update(at="now"), "at"),
        ]:
            self.assert_found("examples", of_charge(change), word)
        def one(written):
            answers = written.api["paths"]["/v1/payments/charge"]["post"]["responses"]["200"]["content"]["application/json"]
            answers["examples"] = {"charged": answers["examples"]["charged"]}
        self.assert_found("outcomes_in_examples", one, "/v1/payments/charge")

    def test_what_cannot_be_read_is_refused(self):
        head = f'syntax = "proto3"; package {PACKAGE};'
        read_proto(head + "message A { repeated A b = 1; }")
        for text in [
            'syntax = "proto2";',
            'syntax = "proto3"; package orders.providers.v2;',
            head + "enum A { B = 0; }",
            head + "message A { map<string, string> b = 1; }",
            head + "message A { message B {} }",
            head + "message A { reserved 1; }",
            head + "message A { B b = 1; }",
            head + "message A {} message A {}",
            head + "message A {} service S { rpc B(stream A) returns (A); }",
            head + "message A {",
        ]:
            with self.subTest(text), self.assertRaises(SyntaxError):
                read_proto(text)
        with self.assertRaises(SyntaxError):
            read_calls('\ncalls! {\n    "Payments" {\n        "Charge" ChargeRequest;\n    }\n}\n')
        with self.assertRaises(yaml.YAMLError):
            yaml.load("a: 1\nb: { c: 1, c: 2 }", Loader)


if __name__ == "__main__":
    unittest.main()

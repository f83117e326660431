"""Holds the templates to what AWS asks of them and the emulator forgives.

Every test looks at the templates as CloudFormation would: transformed by SAM's own translator, with the parameters of a
stage (samconfig.toml) and the conditions decided, nested stacks among them. Limits are those of AWS's documents. It stands
in for an account: what would fail or be lost on AWS has a test here, and whether alarms ring has one in alarms_suite.py.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/template_suite.py
"""
from __future__ import annotations

import copy
import functools
import json
import logging
import os
import re
import struct
import sys
import tempfile
import unittest
import unittest.mock
from graphlib import TopologicalSorter
from pathlib import Path

os.environ["AWS_DEFAULT_REGION"] = "us-east-1"  # SAM's translator asks for one, and for nothing else of AWS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra"))

import backup  # noqa: E402
import botocore.session  # noqa: E402
import cfnlint.api  # noqa: E402
import config  # noqa: E402
import deploy  # noqa: E402
import jsonschema  # noqa: E402
import tomlkit  # noqa: E402
from samcli.cli.types import CfnParameterOverridesType  # noqa: E402
from samcli.yamlhelper import yaml_parse  # noqa: E402
from samtranslator.translator.transform import transform  # noqa: E402

logging.disable(logging.WARNING)  # the translator's own metrics, which nobody publishes
STAGES, ARCHITECTURES = ["local", "dev", "prod"], ["arm64", "x86_64"]
SAMCONFIG = tomlkit.parse((ROOT / "samconfig.toml").read_text()).unwrap()

# ---------------------------------------------------------------- the templates as CloudFormation sees them

NOTHING = object()  # AWS::NoValue
PSEUDO = {
    "AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/order-service/6f0ca1f0-0000-1111-2222-0a58a9feac02",
    "AWS::NoValue": NOTHING,
}


class Stack:
    """A template with parameters put in. A reference to a resource reads `<Name>` or `<Name.Attribute>`, one to a resource of the
    stack around it `<^Name>`."""

    def __init__(self, template: dict, parameters: dict, name: str):
        self.template, self.name = template, name
        declared = template.get("Parameters", {})
        unknown = set(parameters) - set(declared)
        assert not unknown, f"{name} has no parameters {unknown}"
        self.parameters = {key: str(parameters.get(key, spec.get("Default"))) for key, spec in declared.items()}
        missing = [key for key, spec in declared.items() if key not in parameters and "Default" not in spec]
        assert not missing, f"{name} needs the parameters {missing}"
        conditions = template.get("Conditions", {})
        self.conditions = {key: functools.cache(functools.partial(self.value, condition)) for key, condition in conditions.items()}
        self.resources = {key: self.value(resource) for key, resource in template["Resources"].items() if self.exists(resource)}
        self.outputs = {key: self.value(output) for key, output in template.get("Outputs", {}).items() if self.exists(output)}

    def exists(self, entry: dict) -> bool:
        return "Condition" not in entry or self.conditions[entry["Condition"]]()

    def value(self, node):
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (key, argument), = node.items()
            if key == "Ref":
                return self.named(argument)
            if key.startswith("Fn::") or key == "Condition" and isinstance(argument, str):
                return getattr(self, "fn_" + key.removeprefix("Fn::").lower())(argument)
        return {key: value for key, value in ((key, self.value(value)) for key, value in node.items()) if value is not NOTHING}

    def named(self, name: str):
        if name == "AWS::StackName":
            return self.name
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            is_list = self.template["Parameters"][name]["Type"].startswith(("CommaDelimitedList", "List<"))
            return self.parameters[name].split(",") if is_list else self.parameters[name]
        assert name in self.template["Resources"], f"nothing is called {name}"
        return f"<{name}>"

    def fn_getatt(self, argument):
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        assert name in self.template["Resources"], f"nothing is called {name}"
        return f"<{name}.{attribute}>"

    def fn_sub(self, argument):
        text, names = (argument, {}) if isinstance(argument, str) else argument
        return re.sub(r"\$\{([\w:.]+)}", lambda match: self.substitute(match[1], names), text)

    def substitute(self, name: str, names: dict) -> str:
        if name in names:
            return self.value(names[name])
        return self.fn_getatt(name) if "." in name else self.named(name)

    def fn_if(self, argument):
        condition, yes, no = argument
        return self.value(yes if self.conditions[condition]() else no)

    def fn_join(self, argument):
        return argument[0].join(self.value(argument[1]))

    def fn_select(self, argument):
        return self.value(argument[1])[int(argument[0])]

    def fn_split(self, argument):
        text = self.value(argument[1])
        # What a reference will be is known to have both parts, and not which.
        return [f"<{part} {text}>" for part in ("before", "after")] if re.fullmatch(r"<[^<>]*>", text) else text.split(argument[0])

    def fn_equals(self, argument):
        return self.value(argument[0]) == self.value(argument[1])

    def fn_not(self, argument):
        return not self.value(argument[0])

    def fn_and(self, argument):
        return all(map(self.value, argument))

    def fn_or(self, argument):
        return any(map(self.value, argument))

    def fn_condition(self, argument):
        return self.conditions[argument]()

    def fn_contains(self, argument):
        return self.value(argument[1]) in self.value(argument[0])

    def fn_eachmemberequals(self, argument):
        return all(member == self.value(argument[1]) for member in self.value(argument[0]))

    def broken_rules(self) -> list[str]:
        """For which CloudFormation would refuse these parameters."""
        return [name for name, rule in self.template.get("Rules", {}).items() if self.value(rule["RuleCondition"])
                and not all(self.value(assertion["Assert"]) for assertion in rule["Assertions"])]

    def of_type(self, kind: str) -> dict[str, dict]:
        """The properties of the resources of a type, by name."""
        return {name: resource.get("Properties", {}) for name, resource in self.resources.items() if resource["Type"] == kind}

    def nested(self) -> list[Stack]:
        found = []
        for name, properties in self.of_type("AWS::CloudFormation::Stack").items():
            # What the stack around it refers to is outside of this one.
            parameters = {key: outwards(value) for key, value in properties["Parameters"].items()}
            found.append(Stack(source(properties["TemplateURL"]), parameters, f"{self.name}-{name}-1ABCDEFGHIJKL"))
        return found

    def child(self, kind: str) -> Stack:
        return next(stack for stack in self.nested() if stack.of_type(kind))

    def properties(self, reference: str) -> dict:
        """Of the resource that a reference names."""
        return self.resources[named_in(reference)]["Properties"]


def outwards(value):
    return value.replace("<", "<^") if isinstance(value, str) else value


def named_in(reference: str) -> str:
    return re.fullmatch(r"<\^*(\w+)(\.[\w.]+)?>", reference)[1]


@functools.cache
def source(path: str) -> dict:
    return yaml_parse((ROOT / path).read_text())


@functools.cache
def stack(stage: str, **parameters: str) -> Stack:
    parameters = stage_parameters(stage) | parameters
    template = copy.deepcopy(source("template.yaml"))
    for resource in template["Resources"].values():
        properties = resource["Properties"]
        if "CodeUri" in properties:
            properties["CodeUri"] = "s3://bucket/key"
        if "DefinitionUri" in properties:
            properties["DefinitionUri"] = "s3://bucket/" + properties["DefinitionUri"]
    template = transform(template, dict(parameters), NoManagedPolicies())
    return Stack(template, parameters, settings(stage, "deploy")["stack_name"])


class NoManagedPolicies:
    @staticmethod
    def load() -> dict:
        return {}


def settings(stage: str, command: str) -> dict:
    """What samconfig.toml says of a command; the part `global` is for all of them."""
    stage = SAMCONFIG.get(stage, {})
    return stage.get("global", {}).get("parameters", {}) | stage.get(command, {}).get("parameters", {})


def stage_parameters(stage: str) -> dict[str, str]:
    return deploy.overrides(settings(stage, "deploy")["parameter_overrides"])


def first_deployments() -> list[Stack]:
    """Of every stage and for every architecture, with what samconfig.toml says."""
    return [stack(stage, Architecture=architecture) for stage in STAGES for architecture in ARCHITECTURES]


def in_every_stage(test):
    """Runs a test once for each stage and architecture."""
    @functools.wraps(test)
    def run(self):
        for stage in STAGES:
            for architecture in ARCHITECTURES:
                with self.subTest(stage=stage, architecture=architecture):
                    test(self, stack(stage, Architecture=architecture))
    return run


def variants() -> list[Stack]:
    """With the parameters that change what there is."""
    topic = "arn:aws:sns:us-east-1:123456789012:operators"
    return [*first_deployments(), stack("prod", **EVERYTHING, AlarmTopicArn=topic),
            stack("dev", Issuer="https://id.example", Audience="orders")]


EVERYTHING = {"ProtectData": "true", "MachineClients": "true", "StaffSecondFactor": "true", "CommandConcurrency": "20", "BusArchiveDays": "30", "WarmMinimum": "2",
              "ProviderSecrets": "order-service-prod/", "ProviderSubnets": "subnet-0123456789abcdef0", "ProviderSecurityGroups": "sg-0123456789abcdef0"}


def listed(value) -> list:
    return value if isinstance(value, list) else [value]


def functions(of: Stack) -> dict[str, dict]:
    return of.of_type("AWS::Lambda::Function")


def withholds_staff(of: Stack) -> bool:
    return "WithholdStaff" in of.resources


def called(reference: str) -> str:
    """The function that this calls, which has to be by its alias."""
    match = re.fullmatch(r"<\^*(\w+)Aliaslive>", reference)
    assert match, f"{reference} is no alias of a function"
    return match[1]


def called_by(integration: dict, main: Stack) -> str:
    """The function that answers a route; the console's is named by an ARN that is put together."""
    uri = integration["IntegrationUri"]
    named = (name for name, properties in functions(main).items() if uri == f"arn:aws:lambda:us-east-1:123456789012:function:{properties['FunctionName']}:live")
    return called(uri) if uri.startswith("<") else next(named)


def deed(properties: dict, of: Stack) -> str:
    """What a function is called in the repository."""
    return properties["FunctionName"].removeprefix(f"{of.name}-")


def all_stacks(of: Stack) -> list[Stack]:
    return [of, *of.nested()]


# ---------------------------------------------------------------- a first deployment


class Deployment(unittest.TestCase):
    @in_every_stage
    def test_the_stage_waits_for_every_route(self, main):
        """A stage whose RouteSettings name a route that is not there yet: `Unable to find Route by key GET /health`."""
        api = main.child("AWS::ApiGatewayV2::Stage")
        waits = listed(api.resources["Stage"].get("DependsOn", []))
        self.assertEqual(set(api.of_type("AWS::ApiGatewayV2::Route")) - set(waits), set())
        keys = {route["RouteKey"] for route in api.of_type("AWS::ApiGatewayV2::Route").values()}
        self.assertLessEqual(set(api.of_type("AWS::ApiGatewayV2::Stage")["Stage"]["RouteSettings"]), keys)

    @in_every_stage
    def test_a_failed_first_deployment_can_be_removed(self, main):
        """A rollback cannot delete what is protected against deletion, and ends in ROLLBACK_FAILED."""
        for part in all_stacks(main):
            self.assertEqual(protected(part), [], "protected while the stack comes up")
            for name, resource in part.resources.items():
                # A version goes with what it is a version of.
                if not resource["Type"].endswith("Version"):
                    self.assertIn(resource.get("DeletionPolicy", "Delete"), ["Delete", "RetainExceptOnCreate"], name)

    def test_data_is_protected_once_the_stack_has_come_up(self):
        main = stack("prod", ProtectData="true")
        kept = [name for name, resource in main.resources.items() if resource.get("DeletionPolicy") == "RetainExceptOnCreate"]
        self.assertIn("EventsTable", kept)
        self.assertLessEqual(set(kept), set(protected(main)))
        self.assertEqual([name for name in kept if main.resources[name]["UpdateReplacePolicy"] != "Retain"], [])

    def test_a_stage_that_is_not_protected_yet_says_so(self):
        self.assertIn("NotProtected", stack("prod").outputs)
        self.assertNotIn("NotProtected", stack("prod", ProtectData="true").outputs)
        self.assertNotIn("NotProtected", stack("dev").outputs)

    def test_sam_builds_every_function_from_its_own_crate_for_the_architecture_that_is_deployed(self):
        """A folder that anything else fills, like target/lambda, may hold another architecture's or profile's binary."""
        template = source("template.yaml")
        self.assertEqual(template["Globals"]["Function"]["Architectures"], [{"Ref": "Architecture"}])
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::Serverless::Function":
                with self.subTest(name):
                    function = resource["Properties"]["FunctionName"]["Fn::Sub"].removeprefix("${AWS::StackName}-")
                    self.assertEqual(resource["Properties"]["CodeUri"], f"functions/{function}/")
                    self.assertEqual(resource.get("Metadata"), {"BuildMethod": "rust-cargolambda"})
                    self.assertNotIn("Architectures", resource["Properties"])

    def test_a_parameter_that_functions_go_by_and_what_they_refer_to_is_published(self):
        """SAM looks for changes in a function's own text only, and an alias would go on calling a version with the environment of before."""
        self.assertEqual(source("template.yaml")["Globals"]["Function"]["Description"], deploy.stack.UNSTAMPED)
        with tempfile.TemporaryDirectory() as folder:
            template = Path(folder) / "template.yaml"
            template.write_text((ROOT / "template.yaml").read_text())
            stamped = {parameters: deploy.stack.stamped(template, parameters).read_text() for parameters in ("LogLevel=INFO", "LogLevel=DEBUG")}
            again = deploy.stack.stamped(template, "LogLevel=INFO").read_text()
        descriptions = {parameters: yaml_parse(text)["Globals"]["Function"]["Description"] for parameters, text in stamped.items()}
        self.assertEqual(len({deploy.stack.UNSTAMPED, *descriptions.values()}), 3)
        self.assertEqual(again, stamped["LogLevel=INFO"])
        versions = [set(stack("dev").of_type("AWS::Lambda::Version"))]
        with unittest.mock.patch.dict(source("template.yaml")["Globals"]["Function"], Description="digest of something else"):
            versions.append(set(stack.__wrapped__("dev").of_type("AWS::Lambda::Version")))
        self.assertEqual([len(some) for some in versions], [len(functions(stack("dev")))] * 2)
        self.assertEqual(versions[0] & versions[1], set())

    def test_what_was_taken_back_can_be_deployed_once_more(self):
        """Its versions stay, and Lambda publishes none that is no other than the newest: `A version for this Lambda function exists ( 7 )`."""
        first, second = ({"StackStatus": "UPDATE_ROLLBACK_COMPLETE", "LastUpdatedTime": f"2026-11-27 10:{minute}:00+00:00"} for minute in (10, 20))
        with tempfile.TemporaryDirectory() as folder:
            template = Path(folder) / "template.yaml"
            template.write_text((ROOT / "template.yaml").read_text())
            stamped = [deploy.stack.stamped(template, "{}" + deploy.what_was_taken_back(described)).read_text()
                       for described in (None, first, second, first | {"StackStatus": "UPDATE_COMPLETE"}, {"StackStatus": "CREATE_COMPLETE"})]
        self.assertEqual(len(set(stamped)), 3)
        self.assertEqual({stamped[0], *stamped[3:]}, {stamped[0]}, "what has come through is published anew without a reason")

    def test_parameters_are_those_that_are_named_then_those_that_the_stack_has_then_the_defaults(self):
        stage = deploy.Stage("prod")
        described = {"Parameters": [{"ParameterKey": name, "ParameterValue": value}
                                    for name, value in (("LogLevel", "WARN"), ("LogRetentionDays", "1"), ("Gone", "x"))]}
        found = deploy.effective_parameters(stage, ROOT / "template.yaml", described)
        self.assertEqual((found["LogLevel"], found["LogRetentionDays"], found["TracesRecorded"]), ("WARN", stage.overrides["LogRetentionDays"], "0.05"))
        self.assertNotIn("Gone", found)

    def test_a_parameter_may_be_empty_and_may_have_spaces(self):
        read = CfnParameterOverridesType()
        given = {"Stage": "dev", "ProviderSubnets": "", "AcceptedScopes": "one,two", "ConsoleScope": "openid profile"}
        text = 'Stage=dev ProviderSubnets="" AcceptedScopes=one,two ConsoleScope="openid profile"'
        self.assertEqual(read.convert('Stage=dev ProviderSubnets=', None, None), {"Stage": "dev"}, "what nobody is told of")
        for found in (deploy.overrides(text), read.convert(text, None, None), read.convert(deploy.as_overrides(given), None, None)):
            self.assertEqual(found, given)

    def test_a_stage_deploys_what_was_built_for_it_and_nothing_else(self):
        folders = {stage: settings(stage, "build").get("build_dir") for stage in STAGES}
        self.assertEqual(len({None, *folders.values()}), len(STAGES) + 1, f"each stage needs a folder of its own: {folders}")
        for stage in STAGES:
            with self.subTest(stage):
                self.assertEqual(settings(stage, "deploy").get("template_file"), f"{folders[stage]}/template.yaml")
                overrides = [settings(stage, command).get("parameter_overrides") for command in ("build", "deploy")]
                self.assertEqual(overrides[0], overrides[1], "built with other parameters than deployed")
                # SAM looks for changes in the function's own folder only, and would miss those of shared/.
                self.assertFalse(settings(stage, "build").get("cached", False))

    def test_a_deployment_needs_no_person_and_no_settings_of_the_machine(self):
        for stage in STAGES:
            with self.subTest(stage):
                deploy = settings(stage, "deploy")
                self.assertTrue(deploy.get("region"), "no region")
                self.assertIs(deploy.get("confirm_changeset"), False)
                self.assertIs(deploy.get("fail_on_empty_changeset"), False)
                self.assertEqual(set(deploy["capabilities"].split()), {"CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"})
                self.assertEqual(stage_parameters(stage)["Stage"], stage)
                # A parameter that is left out keeps its last value in CloudFormation, and has its default in `sam build`.
                self.assertIn(stage_parameters(stage).get("Architecture"), ARCHITECTURES)

    def test_outputs_say_what_a_deployment_needs_to_go_on(self):
        for name in ("ApiUrl", "UserPoolId", "UserPoolClientId", "InventoryTable"):
            self.assertIn(name, stack("dev").outputs)

    def test_no_resource_waits_for_itself(self):
        for main in variants():
            for part in all_stacks(main):
                graph = waits_for(part)
                for name, others in graph.items():
                    self.assertLessEqual(others, set(part.resources), f"{name} refers to what is not there")
                TopologicalSorter(graph).prepare()

    def test_nested_stacks_get_the_parameters_that_they_have(self):
        for main in variants():
            self.assertEqual(len(main.nested()), 2)  # Stack() refuses a parameter too many or too few

    def test_sizes_are_within_cloudformations_limits(self):
        for main in variants():
            for part in all_stacks(main):
                self.assertLessEqual(len(part.resources), 500)
                self.assertLessEqual(len(part.template.get("Parameters", {})), 200)
                self.assertLessEqual(len(part.outputs), 200)
                self.assertLessEqual(len(json.dumps(part.template)), 1_000_000)

    def test_every_resource_fits_its_schema(self):
        """cfn-lint on what SAM has made of the template, for whatever the conditions say; the state machine's definition included."""
        for part in all_stacks(stack("prod", **EVERYTHING)):
            template = copy.deepcopy(part.template)
            for name, resource in template["Resources"].items():
                if resource["Type"] == "AWS::StepFunctions::StateMachine":
                    text = json.dumps(definition(part, name)).replace("<FulfilmentAlias>", "arn:aws:states:us-east-1:123456789012:stateMachine:x:live")
                    arns = re.sub(r"<(\w+)Aliaslive>", r"arn:aws:lambda:us-east-1:123456789012:function:\1:live", text)
                    resource["Properties"]["Definition"] = json.loads(arns)
                    del resource["Properties"]["DefinitionS3Location"], resource["Properties"]["DefinitionSubstitutions"]
            found = cfnlint.api.lint(json.dumps(template), regions=["us-east-1"])
            errors = [f"{match.rule.id} {match.path}: {match.message}" for match in found if match.rule.id.startswith("E")]
            self.assertEqual(errors, [])


class Artefacts(unittest.TestCase):
    """The last look before a deployment (infra/deploy.py)."""

    def image(self, machine=deploy.MACHINES["arm64"], sections=(1,), more=b"", ident=b"\x7fELF\x02\x01\x01") -> Path:
        """An executable, as far as its headers go: 64 bytes of header, then the headers of its sections, by their types."""
        header = ident.ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, 64, 0, 64, 56, 0, 64, len(sections), 0)
        table = b"".join(struct.pack("<II", 0, kind).ljust(64, b"\0") for kind in sections)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "bootstrap"
        path.write_bytes(header + table + more)
        return path

    def wrong(self, path: Path, architecture="arm64", released=True) -> str:
        return deploy.what_is_wrong(path, architecture, released) or ""

    def test_what_is_right_is_deployed(self):
        self.assertEqual(self.wrong(self.image(more=b"\0GLIBC_2.34\0")), "")
        self.assertEqual(self.wrong(self.image(machine=0x3E), "x86_64"), "")

    def test_another_architecture_is_not(self):
        self.assertIn("another machine than arm64", self.wrong(self.image(machine=0x3E)))
        self.assertIn("another machine than x86_64", self.wrong(self.image(), "x86_64"))
        self.assertIn("another machine than arm64", self.wrong(self.image(machine=0x3E), released=False))

    def test_another_profile_is_not(self):
        self.assertIn("symbols", self.wrong(self.image(sections=(1, 3, 2))))
        self.assertIn("profile of tests", self.wrong(self.image(more=b"attempt to add with overflow")))
        self.assertEqual(self.wrong(self.image(sections=(1, 2)), released=False), "")

    def test_what_lambda_cannot_run_is_not(self):
        self.assertIn("glibc 2.36", self.wrong(self.image(more=b"\0GLIBC_2.4\0GLIBC_2.36\0")))
        self.assertIn("no executable", self.wrong(self.image(ident=b"#!/bin/sh\n")))
        self.assertIn("not built", self.wrong(Path("nowhere/bootstrap")))
        self.assertIn("more than", self.wrong(self.image(more=b"x" * deploy.LARGEST)))

    def test_a_real_executable_is_told_apart(self):
        here = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
        other = next(architecture for architecture in ARCHITECTURES if architecture != here)
        self.assertEqual(self.wrong(Path(sys.executable).resolve(), here, released=False), "")
        self.assertIn("another machine", self.wrong(Path(sys.executable).resolve(), other, released=False))

    def test_a_function_that_was_not_built_stops_the_deployment(self):
        with self.assertRaisesRegex(SystemExit, "CreateOrder: .*not there"):
            deploy.check(ROOT / "template.yaml", "arm64", released=True)

    def test_prod_is_not_built_before_there_is_somebody_to_call(self):
        for stage, named, kept, nobody in [("dev", None, None, False), ("prod", None, None, True), ("prod", "arn", None, False), ("prod", None, "arn", False),
                                           ("prod", "", "arn", True), ("prod", None, "", True)]:
            there = deploy.Stage(stage)
            there.overrides |= {} if named is None else {"AlarmTopicArn": named}
            described = None if kept is None else {"Parameters": [{"ParameterKey": "AlarmTopicArn", "ParameterValue": kept}]}
            self.assertEqual(deploy.nobody_is_called(there, described), nobody, (stage, named, kept))

    def test_what_cannot_stay_warm_is_not_deployed(self):
        """A scalable target whose minimum is above its maximum is refused, and so is more provisioned concurrency than is reserved."""
        for least, most, reserved, wrong in [(0, 10, 0, None), (0, 10, 5, None), (10, 10, 0, None), (11, 10, 0, "less than WarmMinimum"), (2, 10, 10, None),
                                             (2, 10, 9, "more than CommandConcurrency")]:
            found = deploy.what_cannot_stay_warm({"WarmMinimum": str(least), "WarmMaximum": str(most), "CommandConcurrency": str(reserved)})
            self.assertEqual(found and wrong in found, wrong and True, (least, most, reserved))

    def test_a_deployment_can_go_past_its_alarms(self):
        self.assertNotEqual(deploy.Stage("prod").overrides["DeploymentType"], "AllAtOnce")
        self.assertEqual(deploy.Stage("prod", at_once=True).overrides["DeploymentType"], "AllAtOnce")

    def test_codes_of_the_second_factor_are_those_of_an_authenticator_app(self):
        """The test vectors of RFC 6238, of which a six-digit code is the end."""
        secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        for now, code in [(59, "287082"), (1111111109, "081804"), (20000000000, "353130")]:
            with unittest.mock.patch("time.time", return_value=now):
                self.assertEqual(deploy.totp(secret), code)


def waits_for(part: Stack) -> dict[str, set[str]]:
    """The resources that each one needs to be there before it."""
    graph = {}
    for name, resource in part.resources.items():
        text = json.dumps([resource.get("Properties", {}), resource.get("UpdatePolicy", {})])
        mentioned = set(re.findall(r"<(\w+)[.>]", text)) & set(part.template["Resources"])
        graph[name] = mentioned | set(listed(resource.get("DependsOn", [])))
    return graph


def protected(part: Stack) -> list[str]:
    flags = {"DeletionProtectionEnabled": [True, "true"], "DeletionProtection": ["ACTIVE"]}
    return [name for name, resource in part.resources.items()
            if any(resource.get("Properties", {}).get(flag) in values for flag, values in flags.items())]


# ---------------------------------------------------------------- functions and what calls them


class Functions(unittest.TestCase):
    @in_every_stage
    def test_limits(self, main):
        crates = {manifest.parent.name for manifest in ROOT.glob("functions/*/Cargo.toml")}
        self.assertEqual({deed(function, main) for function in functions(main).values()}, crates - (set() if withholds_staff(main) else {"withhold-staff"}))
        for name, function in functions(main).items():
            with self.subTest(name):
                self.assertRegex(function["FunctionName"], r"^[\w-]{1,64}$")
                self.assertEqual((function["Runtime"], function["Handler"]), ("provided.al2023", "bootstrap"))
                self.assertIn(function["Architectures"], [["arm64"], ["x86_64"]])
                self.assertTrue(128 <= function["MemorySize"] <= 10240)
                self.assertTrue(1 <= function["Timeout"] <= 900)

    @in_every_stage
    def test_the_architecture_is_the_one_asked_for(self, main):
        wanted = {main.parameters["Architecture"]}
        self.assertEqual({one for function in functions(main).values() for one in function["Architectures"]}, wanted)

    @in_every_stage
    def test_environments_fit_into_4_kilobytes(self, main):
        for name, function in functions(main).items():
            variables = function["Environment"]["Variables"]
            # A reference becomes a name or an ARN of at most 200 characters.
            size = sum(len(key) + len(re.sub(r"<[^>]*>", "x" * 200, str(value))) for key, value in variables.items())
            self.assertLessEqual(size, 4096, name)
            for key in variables:
                self.assertRegex(key, r"^[a-zA-Z]\w+$", name)
                self.assertNotRegex(key, r"^(AWS_|LAMBDA_|_HANDLER)", name)

    @in_every_stage
    def test_what_answers_http_is_done_before_api_gateway_gives_up(self, main):
        api = main.child("AWS::ApiGatewayV2::Integration")
        for name, integration in api.of_type("AWS::ApiGatewayV2::Integration").items():
            gives_up = integration.get("TimeoutInMillis", 30_000) / 1000  # 30 s is an HTTP API's most, and its default
            self.assertLessEqual(gives_up, 30, name)
            self.assertLess(functions(main)[called_by(integration, main)]["Timeout"], gives_up - 1, name)

    @in_every_stage
    def test_a_rebuild_waits_until_nobody_goes_by_the_generations_that_were_before(self, main):
        """Neither a request nor a batch. Whatever else knows the views is started again by a schedule or by an operator."""
        def seconds(path: str, name: str) -> int:
            return int(re.search(rf"const {name}: Duration = Duration::from_secs\((\d+)\);", (ROOT / "shared" / path).read_text())[1])

        known_for = seconds("adapters/src/dynamodb/read_model.rs", "KNOWN_FOR")
        know_the_views = {name for name, function in functions(main).items() if "ORDERS_TABLE" in function["Environment"]["Variables"]}
        answer = {name.split("Route")[0] for name in main.child("AWS::ApiGatewayV2::Route").of_type("AWS::ApiGatewayV2::Route")}
        follow = {called(mapping["FunctionName"]) for mapping in main.of_type("AWS::Lambda::EventSourceMapping").values() if is_stream(mapping)}
        for wait, asked in [("UNTIL_READERS_KNOW", answer), ("UNTIL_WRITERS_KNOW", follow)]:
            longest = max(functions(main)[name]["Timeout"] for name in asked & know_the_views)
            self.assertGreater(seconds("application/src/rebuild_orders.rs", wait), known_for + longest, wait)

    @in_every_stage
    def test_queues_hide_a_message_six_times_as_long_as_its_function_may_take(self, main):
        for name, mapping, queue in queue_mappings(main):
            window = mapping.get("MaximumBatchingWindowInSeconds", 0)
            timeout = functions(main)[called(mapping["FunctionName"])]["Timeout"]
            self.assertGreaterEqual(queue["VisibilityTimeout"], 6 * timeout + window, name)

    @in_every_stage
    def test_a_queue_cannot_take_all_functions_that_an_account_may_run(self, main):
        """Without a ceiling, each queue takes up to a thousand, of the ten that a new account may have."""
        ceilings = [mapping.get("ScalingConfig", {}).get("MaximumConcurrency") for _, mapping, _ in queue_mappings(main)]
        self.assertTrue(all(ceiling and 2 <= ceiling <= 1000 for ceiling in ceilings), ceilings)
        self.assertLessEqual(sum(ceilings), 5, "half of what a new account may run")

    def test_functions_that_call_providers_can_run_in_a_network_and_no_function_does_unasked(self):
        network = {"ProviderSubnets": "subnet-1,subnet-2", "ProviderSecurityGroups": "sg-1"}
        for parameters, expected in [({}, None), (network, {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]})]:
            main = stack("prod", **parameters)
            for name, function in functions(main).items():
                # `health` only tells which there are.
                calls_providers = "DISCOVERY_NAMESPACE" in function["Environment"]["Variables"] and name != "Health"
                self.assertEqual(function.get("VpcConfig"), expected if calls_providers else None, name)

    def test_what_functions_in_a_network_ask_of_aws_has_an_endpoint_on_the_page(self):
        """In a network, a function reaches nothing of AWS that the network does not."""
        main = stack("prod", **EVERYTHING, SenderIdentity="example.com")
        asked = {action.split(":")[0] for name, function in functions(main).items() if "VpcConfig" in function for action, _ in grants_of(main, name)}
        names = {"appconfig": "appconfigdata", "servicediscovery": "data-servicediscovery", "ses": "email"}
        page = (ROOT / "docs/deploy.md").read_text().split("## Providers in a network of your own")[1].split("\n## ")[0]
        told = re.findall(r"`(?:com\.amazonaws\.<region>)?\.([a-z-]+)`", page)
        self.assertEqual(sorted(names.get(service, service) for service in asked), sorted(told))

    def test_commands_can_have_executions_reserved(self):
        reserved = {name: function.get("ReservedConcurrentExecutions") for name, function in functions(stack("prod")).items()}
        self.assertEqual({name for name, number in reserved.items() if number is not None}, set())
        main = stack("prod", CommandConcurrency="20")
        reserved = {name: function.get("ReservedConcurrentExecutions") for name, function in functions(main).items()}
        self.assertEqual({name for name, number in reserved.items() if number == "20"}, {"CreateOrder", "CancelOrder"})

    @in_every_stage
    def test_batches_wait_as_their_sources_allow(self, main):
        for name, mapping in main.of_type("AWS::Lambda::EventSourceMapping").items():
            with self.subTest(name):
                window, size = mapping.get("MaximumBatchingWindowInSeconds", 0), mapping["BatchSize"]
                self.assertTrue(0 <= window <= 300)
                for pattern in mapping.get("FilterCriteria", {}).get("Filters", []):
                    self.assertIsInstance(json.loads(pattern["Pattern"]), dict)
                if is_stream(mapping):
                    self.assertTrue(1 <= size <= 10_000)
                    # More lanes would not keep the commits of one stream in order: DynamoDB orders by item, and each is one.
                    self.assertEqual(mapping.get("ParallelizationFactor", 1), 1)
                else:
                    self.assertTrue(1 <= size <= 10 or window >= 1, "more than ten messages need a window")
                    self.assertNotIn("StartingPosition", mapping)
                    self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])

    @in_every_stage
    def test_what_was_imported_does_not_go_out_once_more(self, main):
        """`exists` sees leaves only: an attribute without its type is none, so a filter for that would let everything pass."""
        for name, mapping in main.of_type("AWS::Lambda::EventSourceMapping").items():
            if is_stream(mapping):
                patterns = [json.loads(each["Pattern"]) for each in mapping["FilterCriteria"]["Filters"]]
                new_commits = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {backup.MARK: {"S": [{"exists": False}]}}}}
                self.assertEqual(patterns, [new_commits], name)  # another beside it would let pass what this one does not

    def test_an_event_table_of_another_name_takes_the_place_of_the_first(self):
        self.assertNotIn("TableName", stack("prod").resources["EventsTable"]["Properties"])
        main = stack("prod", EventsTableName="restored")
        self.assertEqual(main.resources["EventsTable"]["Properties"]["TableName"], "restored")
        self.assertEqual(main.resources["EventsTable"]["UpdateReplacePolicy"], "Retain")

    @in_every_stage
    def test_nothing_that_a_stream_brings_is_dropped_in_silence(self, main):
        for name, mapping in main.of_type("AWS::Lambda::EventSourceMapping").items():
            if is_stream(mapping):
                with self.subTest(name):
                    destination = mapping["DestinationConfig"]["OnFailure"]["Destination"]
                    self.assertEqual(main.resources[named_in(destination)]["Type"], "AWS::SQS::Queue")
                    self.assertIn(("sqs:SendMessage", destination), grants_of(main, called(mapping["FunctionName"])))
                    self.assertEqual(mapping["StartingPosition"], "TRIM_HORIZON")
                    self.assertTrue(mapping["BisectBatchOnFunctionError"])
                    # Without limits, one record that cannot be done holds up its shard until it expires.
                    self.assertTrue(0 <= mapping["MaximumRetryAttempts"] <= 10_000)
                    self.assertTrue(60 <= mapping["MaximumRecordAgeInSeconds"] <= 86_400)

    @in_every_stage
    def test_only_requests_and_executions_begin_traces(self, main):
        """X-Ray charges for each. A trace of a batch has one part, which the metrics tell as well."""
        api = main.child("AWS::ApiGatewayV2::Integration").of_type("AWS::ApiGatewayV2::Integration").values()
        traced = {called_by(integration, main) for integration in api}
        traced |= {called(state["Resource"]) for name, state in definition(main, "Fulfilment")["States"].items() if state["Type"] == "Task" and name != "HandOver"}
        for name, function in functions(main).items():
            self.assertEqual(function["TracingConfig"]["Mode"], "Active" if name in traced else "PassThrough", name)

    def test_spans_go_to_x_ray_or_to_a_collector(self):
        """OpenTelemetry's own names; a variable that is empty would be an endpoint. X-Ray takes spans only from roles that may put them."""
        for endpoint, told in [("", None), ("http://localhost:4318", "http://localhost:4318")]:
            main = stack("dev", OtlpEndpoint=endpoint, TracesRecorded="0.5")
            for name, function in functions(main).items():
                variables = function["Environment"]["Variables"]
                self.assertEqual(variables.get("OTEL_EXPORTER_OTLP_ENDPOINT"), told, name)
                self.assertEqual(str(variables["OTEL_TRACES_SAMPLER_ARG"]), "0.5", name)
                policies = main.properties(function["Role"])["ManagedPolicyArns"]
                self.assertTrue(any("AWSXrayWriteOnlyAccess" in json.dumps(policy) for policy in policies), name)

    @in_every_stage
    def test_lambda_writes_of_itself_only_about_what_failed(self, main):
        for name, function in functions(main).items():
            logging = function["LoggingConfig"]
            self.assertEqual((logging["LogFormat"], logging["SystemLogLevel"]), ("JSON", "WARN"), name)

    def test_figures_are_not_lost_when_logs_are_quieter(self):
        """To Lambda, a line of the embedded metric format is of the level INFO. Our code goes by LOG_LEVEL itself."""
        for level in ("ERROR", "INFO", "DEBUG"):
            for name, function in functions(stack("dev", LogLevel=level)).items():
                self.assertEqual(function["LoggingConfig"]["ApplicationLogLevel"], "TRACE", name)
                self.assertEqual(function["Environment"]["Variables"]["LOG_LEVEL"], level, name)

    @in_every_stage
    def test_figures_lie_where_alarms_look_for_them(self, main):
        for name, function in functions(main).items():
            self.assertEqual(function["Environment"]["Variables"]["METRIC_NAMESPACE"], main.name, name)

    @in_every_stage
    def test_a_stream_has_two_readers_at_most(self, main):
        streams = [mapping["EventSourceArn"] for mapping in main.of_type("AWS::Lambda::EventSourceMapping").values() if is_stream(mapping)]
        self.assertLessEqual(max(map(streams.count, streams)), 2)

    @in_every_stage
    def test_dead_letters_outlive_what_they_came_from(self, main):
        for name, queue in main.of_type("AWS::SQS::Queue").items():
            with self.subTest(name):
                self.assertTrue(60 <= queue["MessageRetentionPeriod"] <= 1_209_600)
                self.assertLessEqual(queue.get("VisibilityTimeout", 30), 43_200)
                if policy := queue.get("RedrivePolicy"):
                    dead = main.properties(policy["deadLetterTargetArn"])
                    self.assertGreaterEqual(dead["MessageRetentionPeriod"], queue["MessageRetentionPeriod"])
                    self.assertTrue(5 <= policy["maxReceiveCount"] <= 1000, "throttled deliveries count, too")

    @in_every_stage
    def test_messages_of_our_own_hold_ids_and_types_only(self, main):
        """Whoever reads a queue, or what is left in it for days, needs no address, name or free text of a customer."""
        for name, rule in main.of_type("AWS::Events::Rule").items():
            for target in rule["Targets"]:
                with self.subTest(name):
                    if "ScheduleExpression" in rule:
                        continue
                    transformer = target["InputTransformer"]
                    self.assertEqual(transformer["InputPathsMap"], {"metadata": "$.detail.metadata"})
                    self.assertEqual(json.loads(transformer["InputTemplate"].replace("<metadata>", "7")), {"detail": {"metadata": 7}})

    def test_the_bus_is_archived_only_where_a_parameter_says_for_how_long(self):
        """Of an archive, nothing is taken back before its time: it has the addresses that events have."""
        self.assertEqual([main.name for main in first_deployments() if main.of_type("AWS::Events::Archive")], [])
        self.assertEqual(stack("local", BusArchiveDays="30").of_type("AWS::Events::Archive"), {}, "the emulator refuses it")
        archive = stack("prod", BusArchiveDays="30").of_type("AWS::Events::Archive")["BusArchive"]
        self.assertEqual((archive["SourceArn"], archive["RetentionDays"]), ("<EventBus.Arn>", "30"))

    @in_every_stage
    def test_what_a_rule_hands_on_changes_after_whoever_reads_it(self, main):
        """A rule is updated in a moment, a function's code is not: in between, the old code would get the new messages."""
        waits_for, = listed(main.resources["FulfilmentRule"]["DependsOn"])
        self.assertEqual(called(main.resources[waits_for]["Properties"]["FunctionName"]), "StartFulfilment")

    def test_parameters_that_do_not_go_together_are_refused(self):
        called = {"AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:operators"}
        network = {"ProviderSubnets": "subnet-1,subnet-2"}
        for stage, parameters, broken in [
            ("dev", {}, []),
            ("local", {}, []),
            ("prod", {}, ["ProdNeedsSomebodyToCall"]),
            ("prod", called, []),
            ("prod", called | EVERYTHING, []),
            # The default scopes are those of Cognito.
            ("dev", {"Issuer": "https://id.example"}, ["IssuerNeedsAudience", "IssuerNeedsScopes"]),
            ("dev", {"Issuer": "https://id.example", "Audience": "orders", "AcceptedScopes": ""}, []),
            ("dev", network, ["SubnetsNeedSecurityGroups"]),
            ("dev", network | {"ProviderSecurityGroups": "sg-1"}, []),
        ]:
            self.assertEqual(stack(stage, **parameters).broken_rules(), broken, parameters)

    @in_every_stage
    def test_rules_may_reach_their_targets(self, main):
        for name, rule in main.of_type("AWS::Events::Rule").items():
            self.assertLessEqual(len(rule["Targets"]), 5)
            for target in rule["Targets"]:
                with self.subTest(name, target=target["Id"]):
                    kind = main.resources[named_in(target["Arn"])]["Type"]
                    if kind == "AWS::Lambda::Alias":
                        self.assertTrue(lambda_permits(main, target["Arn"], "events.amazonaws.com", f"<{name}.Arn>"))
                    else:
                        self.assertTrue(queue_permits(main, target["Arn"], f"<{name}.Arn>"))
                    if letters := target.get("DeadLetterConfig"):
                        self.assertTrue(queue_permits(main, letters["Arn"], f"<{name}.Arn>"))


def is_stream(mapping: dict) -> bool:
    return mapping["EventSourceArn"].endswith(".StreamArn>")


def queue_mappings(main: Stack) -> list[tuple[str, dict, dict]]:
    """Mappings whose source is a queue, with that queue."""
    return [(name, mapping, main.properties(mapping["EventSourceArn"]))
            for name, mapping in main.of_type("AWS::Lambda::EventSourceMapping").items() if not is_stream(mapping)]


def lambda_permits(main: Stack, function: str, principal: str, source_arn: str) -> bool:
    return any(called(permission["FunctionName"]) == called(function) and permission["Principal"] == principal
               and permission["SourceArn"] == source_arn and permission["Action"] == "lambda:InvokeFunction"
               for permission in main.of_type("AWS::Lambda::Permission").values())


def queue_permits(main: Stack, queue: str, rule: str) -> bool:
    for policy in main.of_type("AWS::SQS::QueuePolicy").values():
        if f"<{named_in(queue)}>" in policy["Queues"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if queue in listed(statement["Resource"]) and statement["Condition"] == {"ArnEquals": {"aws:SourceArn": rule}}:
                    return statement["Effect"] == "Allow" and statement["Action"] == "sqs:SendMessage"
    return False


class Consumers(unittest.TestCase):
    """The example of clients/consumer, which stands beside the service."""

    def setUp(self):
        template = copy.deepcopy(source("clients/consumer/template.yaml"))
        template["Resources"]["Consumer"]["Properties"]["CodeUri"] = "s3://bucket/key"
        self.parameters = {"EventBus": "order-service-prod", "Language": "rust"}
        self.consumer = Stack(transform(template, dict(self.parameters), NoManagedPolicies()), self.parameters, "loyalty-points")

    def test_it_gets_all_events_of_an_order_or_it_would_take_what_its_rule_leaves_out_for_a_gap(self):
        rule = self.consumer.of_type("AWS::Events::Rule")["Rule"]
        self.assertEqual(rule["EventPattern"], {"source": ["order-service"], "detail": {"metadata": {"aggregate_type": ["order"]}}})
        (target,) = rule["Targets"]
        self.assertTrue(queue_permits(self.consumer, target["Arn"], "<Rule.Arn>"))
        self.assertTrue(queue_permits(self.consumer, target["DeadLetterConfig"]["Arn"], "<Rule.Arn>"))

    def test_a_message_that_fails_comes_again_by_itself_and_is_parked_at_last(self):
        ((name, mapping, queue),) = queue_mappings(self.consumer)
        self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"], name)
        timeout = self.consumer.properties(mapping["FunctionName"])["Timeout"]
        self.assertGreaterEqual(int(queue["VisibilityTimeout"]), 6 * timeout, "as Lambda recommends")
        least = self.consumer.template["Parameters"]["RetryAfterSeconds"]["MinValue"]
        self.assertGreaterEqual(least, timeout, "Lambda refuses a queue that shows a message again while its function may be at it")
        letters = self.consumer.properties(queue["RedrivePolicy"]["deadLetterTargetArn"])
        self.assertGreater(letters["MessageRetentionPeriod"], queue["MessageRetentionPeriod"])
        self.assertGreaterEqual(int(queue["RedrivePolicy"]["maxReceiveCount"]), 5, "throttled deliveries count, too")

    def test_its_role_allows_its_own_calls_and_reading_its_queue(self):
        own = {(action, resource) for action, resource in grants_of(self.consumer, "Consumer") if action.startswith("dynamodb:")}
        self.assertEqual(own, {(f"dynamodb:{action}", "<Table.Arn>") for action in ("GetItem", "PutItem", "UpdateItem")})
        policies = json.dumps(self.consumer.properties("<ConsumerRole>")["ManagedPolicyArns"])
        self.assertIn("AWSLambdaSQSQueueExecutionRole", policies)


# ---------------------------------------------------------------- rights


# Which actions may stand on which kind of resource: the type of the resource, and what follows its name.
ITEMS = ["GetItem", "BatchGetItem", "Query", "Scan", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "ConditionCheckItem"]
ALLOWED = {
    ("AWS::DynamoDB::Table", ".Arn"): {f"dynamodb:{action}" for action in [*ITEMS, "DescribeTable"]},
    ("AWS::DynamoDB::Table", ".Arn/index/*"): {"dynamodb:Query", "dynamodb:Scan"},
    ("AWS::DynamoDB::Table", ".StreamArn"): {f"dynamodb:{action}" for action in ("DescribeStream", "GetRecords", "GetShardIterator")},
    ("AWS::DynamoDB::Table", ".Arn/stream/*"): {"dynamodb:ListStreams"},
    ("AWS::SQS::Queue", ".Arn"): {f"sqs:{action}" for action in ("SendMessage", "ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility")},
    ("AWS::Events::EventBus", ".Arn"): {"events:PutEvents", "events:DescribeEventBus"},
    ("AWS::StepFunctions::StateMachine", ""): {"states:StartExecution", "states:DescribeStateMachine"},
    ("AWS::Lambda::Function", ".Arn"): {"lambda:InvokeFunction"},
    ("AWS::Lambda::Alias", ""): {"lambda:InvokeFunction"},
    ("AWS::Cognito::UserPool", ".Arn"): {"cognito-idp:AdminGetUser"},
}
# What is read of secrets, and what stands before the beginning of their names.
SECRETS = {
    "secretsmanager:GetSecretValue": "arn:aws:secretsmanager:us-east-1:123456789012:secret:",
    "ssm:GetParameter": "arn:aws:ssm:us-east-1:123456789012:parameter/",
}
# Actions that know no resource (Service Authorization Reference).
WITHOUT_RESOURCE = re.compile(r"logs:(Create|Get|Update|Delete|List)LogDeliver(y|ies)|logs:(PutResourcePolicy|DescribeResourcePolicies|DescribeLogGroups)"
                              r"|servicediscovery:DiscoverInstances")


def sender(main: Stack) -> list[str]:
    """What mail is sent from. An identity is verified by hand, and no resource of the stack."""
    named = {"identity": main.parameters["SenderIdentity"], "configuration-set": main.parameters["SenderConfigurationSet"]}
    return [f"arn:aws:ses:us-east-1:123456789012:{kind}/{name}" for kind, name in named.items() if name]


class Rights(unittest.TestCase):
    @in_every_stage
    def test_each_function_has_a_role_of_its_own_with_exact_actions_on_exact_resources(self, main):
        roles = [function["Role"] for function in functions(main).values()]
        self.assertEqual(len(roles), len(set(roles)))
        for name in main.of_type("AWS::IAM::Role"):
            for action, resource in grants(main, name):
                with self.subTest(name, action=action, resource=resource):
                    self.assertNotIn("*", action)
                    self.assertTrue(self.may_stand(main, action, resource))

    def may_stand(self, main: Stack, action: str, resource: str) -> bool:
        if action == "cloudwatch:DescribeAlarms":
            return resource == "*"  # as AppConfig's guide has it for its monitors
        if resource == "*" and action != "ses:SendEmail":
            return WITHOUT_RESOURCE.fullmatch(action) is not None
        if action in ("states:DescribeExecution", "states:GetExecutionHistory"):
            # An Express execution has another ARN, and cannot be asked for.
            return resource == "arn:aws:states:us-east-1:123456789012:execution:<Fulfilment.Name>:*"
        if action == "events:DescribeEventBus" and main.parameters["Stage"] == "local" and ":rule/default/" in resource:
            return True  # how the emulator spells a bus
        if action in ("appconfig:StartConfigurationSession", "appconfig:GetLatestConfiguration"):
            # What is read is a profile as it is deployed to an environment, which has no resource of its own.
            return resource == ("arn:aws:appconfig:us-east-1:123456789012:application/<Configuration>"
                                "/environment/<ConfigurationStage>/configuration/<ConfigurationProfile>")
        if action == "ses:SendEmail":
            # The emulator looks for the sender in no request.
            return resource == "*" if main.parameters["Stage"] == "local" else resource in sender(main)
        if action in SECRETS:
            return main.parameters["ProviderSecrets"] != "" and resource == SECRETS[action] + main.parameters["ProviderSecrets"] + "*"
        match = re.fullmatch(r"<(\w+)(\.\w+)?>(/.*)?", resource)
        self.assertIsNotNone(match, "no resource of this stack")
        index = re.sub(r"^/index/[\w-]+$", "/index/*", match[3] or "")
        return action in ALLOWED.get((main.resources[match[1]]["Type"], (match[2] or "") + index), set())

    def test_mail_is_sent_by_those_who_tell_customers_from_the_sender_that_is_named_and_else_by_nobody(self):
        """SES asks for the right on the identity's default configuration set as well: without, each message ends in AccessDenied."""
        of_ses = "arn:aws:ses:us-east-1:123456789012"
        for parameters, resources in [({}, set()), ({"SenderConfigurationSet": "bounces"}, set()), ({"SenderIdentity": "a@example.com"}, {f"{of_ses}:identity/a@example.com"}),
                                      ({"SenderIdentity": "example.com", "SenderConfigurationSet": "bounces"}, {f"{of_ses}:identity/example.com", f"{of_ses}:configuration-set/bounces"})]:
            main = stack("dev", **parameters)
            may = {(name, resource) for name in functions(main) for action, resource in grants_of(main, name) if action == "ses:SendEmail"}
            self.assertEqual(may, {(name, resource) for name in ("SendConfirmation", "CloseOrder") for resource in resources})

    def test_secrets_are_read_where_providers_are_called_and_only_once_somebody_has_said_which(self):
        for main in variants():
            for name in functions(main):
                granted = {action for action, _ in grants_of(main, name)}
                calls_providers = "servicediscovery:DiscoverInstances" in granted and name != "Health"
                expected = set(SECRETS) if main.parameters["ProviderSecrets"] and calls_providers else set()
                self.assertEqual(granted & set(SECRETS), expected, name)

    @in_every_stage
    def test_what_lambda_may_do_with_network_interfaces_the_code_of_functions_may_not(self, main):
        """Whoever may attach a function to a network may delete any interface of the account that is not in use. Calls of the code alone carry the
        function's ARN, so Lambda itself is not denied them (Lambda's guide, security best practices for VPCs)."""
        of_sam = {"AssignPrivateIpAddresses", "CreateNetworkInterface", "DeleteNetworkInterface", "DescribeNetworkInterfaces", "DescribeSubnets",
                  "UnassignPrivateIpAddresses"}  # AWSLambdaVPCAccessExecutionRole
        own = {"ArnLike": {"lambda:SourceFunctionArn": f"arn:aws:lambda:us-east-1:123456789012:function:{main.name}-*"}}
        for name, function in functions(main).items():
            role = main.properties(function["Role"])
            attached = "AWSLambdaVPCAccessExecutionRole" in json.dumps(role["ManagedPolicyArns"])
            denied = [statement for policy in role.get("Policies", []) for statement in policy["PolicyDocument"]["Statement"] if statement["Effect"] == "Deny"]
            self.assertEqual(denied, [{"Effect": "Deny", "Action": sorted(f"ec2:{action}" for action in of_sam), "Resource": "*", "Condition": own}] * attached, name)
            self.assertEqual(attached, "servicediscovery:DiscoverInstances" in dict(grants_of(main, name)) and name != "Health", name)

    @in_every_stage
    def test_policies_fit_into_a_role(self, main):
        for name, role in main.of_type("AWS::IAM::Role").items():
            size = len(re.sub(r"<[^>]*>", "x" * 120, json.dumps(role.get("Policies", []), separators=(",", ":"))))
            self.assertLessEqual(size, 10_240, name)
            self.assertLessEqual(len(role.get("ManagedPolicyArns", [])), 10)

    @in_every_stage
    def test_a_function_may_do_something_with_a_table_only_if_it_knows_it(self, main):
        for name, function in functions(main).items():
            known = json.dumps(function["Environment"])
            for action, resource in grants_of(main, name):
                if "Table" in resource and "Stream" not in resource and "/stream/" not in resource:
                    table = re.match(r"<(\w+)", resource)[1]
                    self.assertIn(f"<{table}>", known, f"{name} may {action} but does not know the table")

    @in_every_stage
    def test_the_processes_of_every_function_may_report_what_they_have_used(self, main):
        for name, function in functions(main).items():
            with self.subTest(name):
                self.assertEqual(function["Environment"]["Variables"]["COUNTERS_TABLE"], "<CountersTable>")
                self.assertIn(("dynamodb:UpdateItem", "<CountersTable.Arn>"), grants_of(main, name))
                self.assertTrue((ROOT / "functions" / deed(function, main)).is_dir(), "they are told by the names of their folders")

    @in_every_stage
    def test_what_feeds_a_function_may_be_read_by_it(self, main):
        for mapping in main.of_type("AWS::Lambda::EventSourceMapping").values():
            actions = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"] if is_stream(mapping) else \
                ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
            granted = grants_of(main, called(mapping["FunctionName"]))
            for action in actions:
                self.assertIn((action, mapping["EventSourceArn"]), granted)

    @in_every_stage
    def test_who_settles_dead_letters_may_ask_whether_others_are_looking_at_them(self, main):
        queues = {f"<{name}.Arn>" for name in main.of_type("AWS::SQS::Queue") if name.endswith("DeadLetters")}
        self.assertEqual(len(queues), 3)
        for name in ("RedriveDeadLetters", "DiscardDeadLetters"):
            granted = grants_of(main, name)
            for action in ("ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage"):
                self.assertEqual({on for do, on in granted if do == f"sqs:{action}"}, queues, f"{name} {action}")


# ---------------------------------------------------------------- versions, and how calls go over to new ones


GRADUAL = {"CreateOrder", "ProjectOrders", "PublishEvents"}  # and the steps
# What CodeDeploy looks at, beside the version's own errors: confirmations, refunds, stuck orders (before they are, and when), 5xx, lag of both readers, functions that die.
SIGNALS = ["ConfirmationsFall", "MoneyGoesBack", "OrdersHandedOver", "OrdersStuck", "RequestsFail", "PublishingLate", "ViewsLag", "FunctionsDie"]


class Versions(unittest.TestCase):
    @in_every_stage
    def test_every_function_is_called_by_an_alias_that_leads_to_its_newest_version(self, main):
        aliases = {named_in(alias["FunctionName"]): alias for alias in main.of_type("AWS::Lambda::Alias").values()}
        self.assertEqual(set(aliases), set(functions(main)))
        for name, alias in aliases.items():
            self.assertEqual(alias["Name"], "live")
            self.assertEqual(named_in(main.properties(alias["FunctionVersion"])["FunctionName"]), name)
            self.assertEqual(main.resources[named_in(alias["FunctionVersion"])]["DeletionPolicy"], "Retain", "what is rolled back to would be gone")

    @in_every_stage
    def test_nobody_names_a_function_itself_but_what_is_about_it(self, main):
        """What calls a function by its own name or ARN calls `$LATEST`, past every version and every canary."""
        about = {"AWS::Lambda::Alias", "AWS::Lambda::Version", "AWS::Lambda::EventInvokeConfig", "AWS::CloudWatch::Alarm", "AWS::ApplicationAutoScaling::ScalableTarget"}
        itself = {f"<{function}{what}>" for function in functions(main) for what in ("", ".Arn")}
        for name, resource in main.resources.items():
            named = set(re.findall(r"<\w+(?:\.Arn)?>", json.dumps(resource.get("Properties", {})))) & itself
            if resource["Type"] == "AWS::IAM::Role":
                named -= {resource for role in ("FulfilmentRole", "FulfilmentExpressRole") if name == role for _, resource in grants(main, role)}
            if resource["Type"] not in about:
                self.assertEqual(named, set(), name)
        for config in main.of_type("AWS::Lambda::EventInvokeConfig").values():
            self.assertEqual(config["Qualifier"], "live")
        for part in all_stacks(main):
            for permission in part.of_type("AWS::Lambda::Permission").values():
                called(permission["FunctionName"])

    def test_operators_tools_call_what_everybody_calls(self):
        paths = ("infra/tools.py", "infra/config.py", "infra/cost/measure.py", "infra/local/aws.py", "infra/deploy.py", "tests/drills_suite.py", "tests/mixed_suite.py",
                 "tests/restore_suite.py", "tests/soak.py")
        for path in paths:
            for call in re.findall(r"\.(?:invoke|get_function|get_function_configuration)\(([^\n]*)", (ROOT / path).read_text()):
                self.assertIn('Qualifier="live"', call, path)
            for call in re.findall(r"\.list_event_source_mappings\((FunctionName=.*)", (ROOT / path).read_text()):
                self.assertIn(':live")', call, path)
        runbook = (ROOT / "docs/runbook.md").read_text()
        called = re.findall(r"aws lambda (?:invoke|list-event-source-mappings) --function-name (\S+)", runbook)
        self.assertTrue(called)
        self.assertEqual([name for name in called if not name.endswith(":live")], [])

    def steps(self, main: Stack) -> set[str]:
        return {called(state["Resource"]) for name, state in definition(main, "Fulfilment")["States"].items() if state["Type"] == "Task" and name != "HandOver"}

    def test_prod_goes_over_gradually_and_what_rings_takes_it_back(self):
        main = stack("prod")
        groups = main.of_type("AWS::CodeDeploy::DeploymentGroup")
        self.assertEqual(set(groups), {f"{name}DeploymentGroup" for name in GRADUAL | self.steps(main)})
        made = {alarm["AlarmName"] for part in main.nested() for alarm in part.of_type("AWS::CloudWatch::Alarm").values() if "AlarmName" in alarm}
        self.assertEqual(made, {f"{main.name}-{signal}" for signal in SIGNALS}, "a name that nothing waits for, or that nothing has")
        for name, group in groups.items():
            with self.subTest(name):
                function = name.removesuffix("DeploymentGroup")
                self.assertEqual(group["DeploymentConfigName"], "CodeDeployDefault.LambdaCanary10Percent10Minutes")
                alarms = [alarm["Name"] for alarm in group["AlarmConfiguration"]["Alarms"]]
                self.assertEqual(alarms, [f"<{function}VersionFails>", *(f"{main.name}-{signal}" for signal in SIGNALS)])
                self.assertLessEqual(len(alarms), 10, "as many as a group may have")
                self.assertEqual(set(group["AutoRollbackConfiguration"]["Events"]),
                                 {"DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"})
                policy = main.resources[f"{function}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
                self.assertEqual(policy["DeploymentGroupName"], f"<{name}>")
                own = dict((one["Name"], one["Value"]) for one in main.properties(alarms[0])["Dimensions"])
                version = main.resources[f"{function}Aliaslive"]["Properties"]["FunctionVersion"]
                self.assertEqual(own, {"FunctionName": f"<{function}>", "Resource": f"<{function}>:live", "ExecutedVersion": version})

    def test_what_watches_a_deployment_that_is_gradual_is_there_before_one_begins(self):
        """CodeDeploy stops one of which it cannot learn an alarm's state. The stack of the alarms is updated after the functions, so what is in it
        because of `DeploymentType` would come too late, and be gone after each deployment at once."""
        for stage in ("dev", "prod"):
            named = [alarm["AlarmName"] for part in stack(stage, DeploymentType="AllAtOnce").nested() for alarm in part.of_type("AWS::CloudWatch::Alarm").values()
                     if "AlarmName" in alarm]
            self.assertEqual(set(named), {f"{stack(stage).name}-{signal}" for signal in SIGNALS})

    def test_a_canary_ends_after_the_alarms_that_watch_it_can_have_rung(self):
        for minutes in (5, 10):
            main = stack("prod", DeploymentType=f"Canary10Percent{minutes}Minutes")
            self.assertIn(f"Canary10Percent{minutes}Minutes", main.of_type("AWS::CodeDeploy::DeploymentGroup")["CreateOrderDeploymentGroup"]["DeploymentConfigName"])
            for name, alarm in main.of_type("AWS::CloudWatch::Alarm").items():
                if name.endswith("VersionFails"):
                    self.assertLess(alarm["Period"] * alarm["DatapointsToAlarm"], 60 * minutes, name)

    def test_elsewhere_all_goes_over_at_once_and_the_emulator_gets_none_of_what_it_refuses(self):
        for stage in ("local", "dev"):
            main = stack(stage)
            kinds = {resource["Type"] for part in all_stacks(main) for resource in part.resources.values()}
            refused = {kind for kind in kinds if "CodeDeploy" in kind or "ApplicationAutoScaling" in kind}
            self.assertEqual(refused, set(), stage)
            self.assertEqual([name for name, resource in main.resources.items() if "UpdatePolicy" in resource], [])
            of_machines = {kind for kind in kinds if kind.startswith("AWS::StepFunctions::StateMachine")}
            self.assertEqual(len(of_machines), 1 if stage == "local" else 3)

    def test_both_versions_may_do_the_same(self):
        """An alias leads to two versions only if they have one role; the emulator does not look."""
        main = stack("prod")
        self.assertEqual({name for name, function in functions(main).items() if not function["Role"].startswith(f"<{name}Role")}, set())

    @in_every_stage
    def test_executions_are_started_by_an_alias_of_a_version_where_there_are_any(self, main):
        alias = "" if main.parameters["Stage"] == "local" else "Alias"
        variables = {name: function["Environment"]["Variables"] for name, function in functions(main).items()}
        self.assertEqual(variables["StartFulfilment"]["FULFILMENT_EXPRESS_ARN"], f"<FulfilmentExpress{alias}>")
        self.assertEqual(variables["Reconcile"]["FULFILMENT_ARN"], f"<Fulfilment{alias}>")
        for name in MACHINES if alias else ():
            (route,) = main.resources[f"{name}Alias"]["Properties"]["RoutingConfiguration"]
            self.assertEqual((main.resources[f"{name}Alias"]["Properties"]["Name"], route), ("live", {"StateMachineVersionArn": f"<{name}Version>", "Weight": 100}))
            version = main.resources[f"{name}Version"]
            self.assertEqual(version["Properties"], {"StateMachineArn": f"<{name}>", "StateMachineRevisionId": f"<{name}.StateMachineRevisionId>"})
            self.assertEqual((version["DeletionPolicy"], version["UpdateReplacePolicy"]), ("Retain", "Retain"))

    def test_some_can_stay_warm_and_none_does_unasked(self):
        self.assertEqual([name for main in first_deployments() for name in main.of_type("AWS::ApplicationAutoScaling::ScalableTarget")], [])
        main = stack("prod", WarmMinimum="2", WarmMaximum="20")
        aliases = {name: alias["ProvisionedConcurrencyConfig"] for name, alias in main.of_type("AWS::Lambda::Alias").items() if "ProvisionedConcurrencyConfig" in alias}
        self.assertEqual(aliases, dict.fromkeys(["CreateOrderAliaslive", "GetOrderAliaslive"], {"ProvisionedConcurrentExecutions": "2"}))
        targets = main.of_type("AWS::ApplicationAutoScaling::ScalableTarget")
        for name in ("CreateOrder", "GetOrder"):
            target = targets[f"{name}Warm"]
            self.assertEqual((target["ResourceId"], target["MinCapacity"], target["MaxCapacity"]), (f"function:<{name}>:live", "2", "20"))
            self.assertEqual(listed(main.resources[f"{name}Warm"]["DependsOn"]), [f"{name}Aliaslive"])
            tracked = main.resources[f"{name}Warmth"]["Properties"]["TargetTrackingScalingPolicyConfiguration"]
            self.assertEqual((float(tracked["TargetValue"]), tracked["PredefinedMetricSpecification"]),
                             (0.7, {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}))


# ---------------------------------------------------------------- discovery


class Discovery(unittest.TestCase):
    @in_every_stage
    def test_who_calls_providers_may_look_for_them_in_the_stacks_own_namespace(self, main):
        """The action knows no resource, so a condition is all that limits it; the emulator knows none of this service."""
        namespace, = main.of_type("AWS::ServiceDiscovery::HttpNamespace").values()
        limited = {} if main.parameters["Stage"] == "local" else {"StringEquals": {"servicediscovery:NamespaceName": namespace["Name"]}}
        for name, function in functions(main).items():
            with self.subTest(name):
                variables = function["Environment"]["Variables"]
                calls_providers = "DISCOVERY_NAMESPACE" in variables
                self.assertEqual(variables.get("DISCOVERY_NAMESPACE"), namespace["Name"] if calls_providers else None)
                policies = main.properties(function["Role"]).get("Policies", [])
                conditions = [statement.get("Condition", {}) for policy in policies for statement in policy["PolicyDocument"]["Statement"]
                              if "servicediscovery:DiscoverInstances" in listed(statement["Action"])]
                self.assertEqual(conditions, [limited] if calls_providers else [])

    @in_every_stage
    def test_names_and_attributes_are_within_cloud_maps_limits(self, main):
        namespace, = main.of_type("AWS::ServiceDiscovery::HttpNamespace").values()
        self.assertRegex(namespace["Name"], r"^[!-~]{1,1024}$")
        for name, service in main.of_type("AWS::ServiceDiscovery::Service").items():
            self.assertRegex(service["Name"], r"^\w([\w-]{0,61}\w)?$", name)
            # Without DNS there are no records, and nothing that Route 53 could check for less than its price.
            self.assertEqual({"DnsConfig", "HealthCheckConfig"} & service.keys(), set(), name)
        for name, instance in main.of_type("AWS::ServiceDiscovery::Instance").items():
            attributes = instance["InstanceAttributes"]
            self.assertRegex(instance["InstanceId"], r"^[\w/:.@-]{1,64}$", name)
            self.assertLessEqual(len(attributes), 30, name)
            self.assertLessEqual(sum(len(key) + len(value) for key, value in attributes.items()), 5000, name)
            for key, value in attributes.items():
                self.assertRegex(key, r"^[!-~]{1,255}$", name)
                self.assertFalse(key.startswith("AWS_"), f"{name}: {key} would have to be one that Cloud Map knows")
                self.assertLessEqual(len(value), 1024, name)

    @in_every_stage
    def test_the_stack_says_where_its_own_api_is(self, main):
        instance, = main.of_type("AWS::ServiceDiscovery::Instance").values()
        self.assertEqual(main.properties(instance["ServiceId"])["Name"], "order-service")
        attributes = instance["InstanceAttributes"]
        self.assertEqual(main.outputs["ApiUrl"]["Value"], attributes["url"])
        routes = main.child("AWS::ApiGatewayV2::Route").of_type("AWS::ApiGatewayV2::Route").values()
        self.assertIn(f"GET {attributes['health_path']}", [route["RouteKey"] for route in routes])


def grants(main: Stack, role: str) -> list[tuple[str, str]]:
    """By the role itself, or by a policy that is attached to it."""
    found, attached = [], [policy for policy in main.of_type("AWS::IAM::Policy").values() if f"<{role}>" in policy["Roles"]]
    for policy in [*main.resources[role]["Properties"].get("Policies", []), *attached]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Deny":
                continue
            assert statement["Effect"] == "Allow", statement
            found += [(action, resource) for action in listed(statement["Action"]) for resource in listed(statement["Resource"])]
    return found


def grants_of(main: Stack, function: str) -> list[tuple[str, str]]:
    return grants(main, named_in(functions(main)[function]["Role"]))


# ---------------------------------------------------------------- the API and who may call it


class Api(unittest.TestCase):
    def test_pages_of_named_origins_may_send_and_see_what_the_contract_has_and_no_others_anything(self):
        """The emulator takes this and refuses every origin all the same: it looks for it under other names."""
        contract = yaml_parse((ROOT / "api/openapi.yaml").read_text())
        sent, seen = {"authorization", "content-type"}, set()

        def walk(node):
            for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
                walk(child)
            if isinstance(node, dict) and node.get("in") == "header":
                sent.add(node["name"].lower())
            if isinstance(node, dict) and isinstance(node.get("headers"), dict):
                seen.update(name.lower() for name in node["headers"])

        walk([contract["paths"], contract["components"]["parameters"], contract["components"]["responses"]])

        def cors(**parameters):
            (api,) = stack("dev", **parameters).child("AWS::ApiGatewayV2::Api").of_type("AWS::ApiGatewayV2::Api").values()
            return api.get("CorsConfiguration")

        self.assertIsNone(cors())
        one = cors(AllowedOrigins="https://shop.example.com,https://desk.example.com")
        self.assertEqual(listed(one["AllowOrigins"]), ["https://shop.example.com", "https://desk.example.com"])
        self.assertEqual(set(one["AllowHeaders"]), sent)
        self.assertEqual(set(one["ExposeHeaders"]), seen - {"cache-control"})  # which pages see anyway
        self.assertEqual({method.lower() for method in one["AllowMethods"]}, {method for path in contract["paths"].values() for method in path} - {"parameters"})
        self.assertNotIn("AllowCredentials", one)

    @in_every_stage
    def test_every_route_reaches_its_function(self, main):
        api = main.child("AWS::ApiGatewayV2::Route")
        routes, seen = api.of_type("AWS::ApiGatewayV2::Route"), set()
        self.assertLessEqual(len(routes), 300)
        for name, route in routes.items():
            with self.subTest(name):
                integration = api.properties(route["Target"].removeprefix("integrations/"))
                self.assertEqual((integration["IntegrationType"], integration["PayloadFormatVersion"]), ("AWS_PROXY", "2.0"))
                function = integration["IntegrationUri"]
                method, path = route["RouteKey"].split(" ")
                called_as = "arn:aws:execute-api:us-east-1:123456789012:%s/*/" + method + re.sub(r"{\w+\+?}", "*", path)
                self.assertEqual(name.split("Route")[0], called_by(integration, main))
                where, called = (api, "<Api>") if function.startswith("<") else (main, "<Api.Outputs.ApiId>")
                self.assertTrue(lambda_permits(where, f"<{called_by(integration, main)}Aliaslive>", "apigateway.amazonaws.com", called_as % called))
                self.assertNotIn(route["RouteKey"], seen)
                seen.add(route["RouteKey"])

    @in_every_stage
    def test_whoever_is_to_answer_may_be_called_before_they_are(self, main):
        """The console's permission waits for the API itself."""
        api = main.child("AWS::ApiGatewayV2::Integration")
        for name in api.of_type("AWS::ApiGatewayV2::Integration"):
            if name != "ConsoleIntegration":
                self.assertEqual(listed(api.resources[name]["DependsOn"]), [name.removesuffix("Integration") + "Permission"])

    @in_every_stage
    def test_every_route_but_health_and_the_console_asks_for_a_token(self, main):
        routes = main.child("AWS::ApiGatewayV2::Route").of_type("AWS::ApiGatewayV2::Route")
        self.assertEqual([route["RouteKey"] for route in routes.values() if route.get("AuthorizationType") != "JWT"],
                         ["GET /health", "GET /console", "GET /console/{proxy+}"])

    @in_every_stage
    def test_health_looks_at_every_table(self, main):
        looked_at = {resource for action, resource in grants_of(main, "Health") if action == "dynamodb:DescribeTable"}
        self.assertEqual(looked_at, {f"<{table}.Arn>" for table in main.of_type("AWS::DynamoDB::Table")})

    @in_every_stage
    def test_a_route_that_asks_for_a_token_asks_for_one_of_its_scopes(self, main):
        """An ID token has the right audience and no scope; an access token of Cognito's by password or SRP has Cognito's own."""
        api = main.child("AWS::ApiGatewayV2::Api")
        machines = {f"orders/{scope['ScopeName']}" for server in main.of_type("AWS::Cognito::UserPoolResourceServer").values()
                    for scope in server["Scopes"]}
        for name, route in api.of_type("AWS::ApiGatewayV2::Route").items():
            if "AuthorizationType" in route:
                self.assertEqual(set(route["AuthorizationScopes"]), machines | {"aws.cognito.signin.user.admin", "openid"}, name)

    def test_another_issuer_has_scopes_of_its_own_or_none(self):
        for scopes, wanted in [("orders:write,orders:read", ["orders:write", "orders:read"]), ("", None)]:
            main = stack("dev", Issuer="https://id.example", Audience="orders", AcceptedScopes=scopes)
            routes = main.child("AWS::ApiGatewayV2::Api").of_type("AWS::ApiGatewayV2::Route")
            self.assertEqual(routes["CreateOrderRoute"].get("AuthorizationScopes"), wanted)

    @in_every_stage
    def test_every_route_has_a_throttle_and_all_together_are_far_below_what_an_account_may_have(self, main):
        """Each route has a bucket of its own, so what the API lets in is their sum. An account's quota of 10,000 a second, 5,000 at
        once, is for all APIs of a region; a burst is what runs at once, of the 1,000 functions that an account has in the end."""
        api = main.child("AWS::ApiGatewayV2::Stage")
        stage, = api.of_type("AWS::ApiGatewayV2::Stage").values()
        settings = stage["RouteSettings"]
        self.assertEqual(set(settings), {route["RouteKey"] for route in api.of_type("AWS::ApiGatewayV2::Route").values()})
        for route, throttle in settings.items():
            self.assertEqual(set(throttle), {"ThrottlingRateLimit", "ThrottlingBurstLimit"}, route)
            self.assertTrue(1 <= throttle["ThrottlingRateLimit"] <= throttle["ThrottlingBurstLimit"], route)
        self.assertLessEqual(sum(throttle["ThrottlingRateLimit"] for throttle in settings.values()), 1_000)
        self.assertLessEqual(sum(throttle["ThrottlingBurstLimit"] for throttle in settings.values()), 2_100)
        self.assertLessEqual(stage["DefaultRouteSettings"]["ThrottlingRateLimit"], 5, "a route that nobody thought of")

    @in_every_stage
    def test_every_route_that_asks_for_a_token_counts_towards_a_limit_of_its_callers(self, main):
        """The table in the code, and in who may ask for it: a function that limits nobody is one that needs no token."""
        rows = re.findall(r'^    \("([A-Z]+ /[^"]*)", (?:Command|Read|Own\(Class::\w+\))\),', (ROOT / "shared/adapters/src/http/limits.rs").read_text(), re.M)
        routes = main.child("AWS::ApiGatewayV2::Route").of_type("AWS::ApiGatewayV2::Route")
        self.assertEqual(sorted(rows), sorted(route["RouteKey"] for route in routes.values() if route.get("AuthorizationType") == "JWT"))
        limited = {name for name in functions(main) if ("dynamodb:UpdateItem", "<LimitsTable.Arn>") in grants_of(main, name)}
        answering = {name.removesuffix("Route") for name, route in routes.items() if route.get("AuthorizationType") == "JWT"}
        self.assertEqual(limited, answering | {"ProcessPayment"}, "ProcessPayment counts declined orders")
        for name in limited:
            self.assertIn(("appconfig:GetLatestConfiguration"), {action for action, _ in grants_of(main, name)}, name)

    @in_every_stage
    def test_the_access_log_is_one_line_of_json_of_three_kilobytes_at_most(self, main):
        stage = main.child("AWS::ApiGatewayV2::Stage").of_type("AWS::ApiGatewayV2::Stage")["Stage"]
        line = stage["AccessLogSettings"]["Format"]
        self.assertNotIn("\n", line)
        self.assertLessEqual(len(line), 3072)
        self.assertIn("request_id", json.loads(line))
        assumed = json.loads((ROOT / "infra/cost/prices.json").read_text())["assumptions"]["access_line"]
        self.assertEqual(json.loads(assumed).keys(), json.loads(line).keys(), "`make cost` counts another line")

    @in_every_stage
    def test_the_pool_is_of_the_tier_that_has_what_is_used(self, main):
        """Lite has passwords, groups, scopes, machines and authenticator apps; the default costs about three times as much."""
        pool, = main.of_type("AWS::Cognito::UserPool").values()
        self.assertEqual(pool["UserPoolTier"], "LITE")
        self.assertEqual({"UserPoolAddOns", "WebAuthnRelyingPartyID"} & pool.keys(), set(), "needs another tier")
        self.assertLessEqual(pool.get("LambdaConfig", {}).keys(), {"PreTokenGeneration"}, "a later version of the event needs another tier")

    @in_every_stage
    def test_a_second_factor_is_offered(self, main):
        pool, = main.of_type("AWS::Cognito::UserPool").values()
        self.assertEqual((pool.get("MfaConfiguration"), pool.get("EnabledMfas")), ("OPTIONAL", ["SOFTWARE_TOKEN_MFA"]))

    def test_a_second_factor_can_be_asked_for(self):
        pool, = stack("prod", SecondFactor="ON").of_type("AWS::Cognito::UserPool").values()
        self.assertEqual(pool["MfaConfiguration"], "ON")

    def test_staff_is_withheld_from_those_without_a_second_factor_where_a_parameter_says_so(self):
        for stage, parameters, withheld in [
            ("prod", {}, True),  # by samconfig.toml
            ("dev", {}, False),
            ("dev", {"StaffSecondFactor": "true"}, True),
            ("dev", {"StaffSecondFactor": "true", "SecondFactor": "ON"}, False),  # everybody has one
        ]:
            with self.subTest(stage, **parameters):
                main = stack(stage, **parameters)
                pool, = main.of_type("AWS::Cognito::UserPool").values()
                self.assertEqual(pool.get("LambdaConfig"), {"PreTokenGeneration": "<WithholdStaffAliaslive>"} if withheld else None)
                self.assertEqual({name for name in main.resources if name.startswith("WithholdStaff") and not name.startswith("WithholdStaffVersion")},
                                 {"WithholdStaff", "WithholdStaffAliaslive", "WithholdStaffRole", "WithholdStaffPolicy", "WithholdStaffPermission"} if withheld else set())
                if withheld:
                    self.assertTrue(lambda_permits(main, "<WithholdStaffAliaslive>", "cognito-idp.amazonaws.com", "<UserPool.Arn>"))
                    self.assertEqual(set(grants_of(main, "WithholdStaff")),
                                     {("cognito-idp:AdminGetUser", "<UserPool.Arn>"), ("dynamodb:UpdateItem", "<CountersTable.Arn>")})
                    # Cognito waits 5 seconds for a function, and this is no setting.
                    self.assertLessEqual(functions(main)["WithholdStaff"]["Timeout"], 5)
        self.assertNotIn("WithholdStaff", stack("dev", Issuer="https://id.example", Audience="orders", StaffSecondFactor="true").resources)

    def test_the_groups_that_are_withheld_are_those_that_the_service_takes_for_staff(self):
        source = (ROOT / "functions/withhold-staff/src/main.rs").read_text()
        withheld = set(re.findall(r'"(\w+)"', re.search(r"const OF_STAFF[^=]+= \[([^]]+)\]", source)[1]))
        known = (ROOT / "shared/adapters/src/http.rs").read_text()
        self.assertEqual(withheld, set(re.findall(r'is_in\("(\w+)"\)', known)) - {"carrier"})
        groups = {group["GroupName"] for group in stack("dev").of_type("AWS::Cognito::UserPoolGroup").values()}
        self.assertEqual(withheld, groups - {"carrier"})

    @in_every_stage
    def test_scopes_of_machines_are_those_that_the_service_knows(self, main):
        server, = main.of_type("AWS::Cognito::UserPoolResourceServer").values()
        offered = {f"{server['Identifier']}/{scope['ScopeName']}" for scope in server["Scopes"]}
        known = set(re.findall(r'const \w+_SCOPE: &str = "([^"]+)"', (ROOT / "shared/adapters/src/http.rs").read_text()))
        self.assertEqual(offered, known)

    def test_machines_get_clients_of_their_own_on_request(self):
        main = stack("prod", MachineClients="true")
        clients = main.of_type("AWS::Cognito::UserPoolClient")
        machines = {name: client for name, client in clients.items() if client.get("GenerateSecret")}
        self.assertEqual(len(machines), 2)
        for name, client in machines.items():
            with self.subTest(name):
                self.assertEqual(client["AllowedOAuthFlows"], ["client_credentials"])
                self.assertEqual(len(client["AllowedOAuthScopes"]), 1)
                self.assertTrue(client["AllowedOAuthFlowsUserPoolClient"])
                self.assertEqual(client["ExplicitAuthFlows"], ["ALLOW_REFRESH_TOKEN_AUTH"], "people could sign in, too")
                self.assertEqual(listed(main.resources[name]["DependsOn"]), ["MachineScopes"], "made before its scope")
        people = clients["UserPoolClient"]
        self.assertNotIn("GenerateSecret", people)
        self.assertNotIn("AllowedOAuthScopes", people)
        # A token of a client that the authorizer does not know is refused.
        authorizer, = main.child("AWS::ApiGatewayV2::Authorizer").of_type("AWS::ApiGatewayV2::Authorizer").values()
        self.assertEqual(set(authorizer["JwtConfiguration"]["Audience"]), {f"<^{name}>" for name in clients} | {"<ConsoleClient>"})
        domain, = main.of_type("AWS::Cognito::UserPoolDomain").values()
        self.assertRegex(domain["Domain"], r"^(?!.*(aws|amazon|cognito))[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
        # They cost money by the month.
        self.assertEqual(set(stack("prod").of_type("AWS::Cognito::UserPoolClient")), {"UserPoolClient"})

    @in_every_stage
    def test_staff_sign_in_to_the_console_by_the_pools_own_page(self, main):
        api = main.child("AWS::ApiGatewayV2::Api")
        client, = api.of_type("AWS::Cognito::UserPoolClient").values()
        self.assertEqual((client["AllowedOAuthFlows"], client["GenerateSecret"]), (["code"], False), "a page keeps no secret")
        self.assertEqual(client["ExplicitAuthFlows"], ["ALLOW_REFRESH_TOKEN_AUTH"], "a way in beside the page")
        self.assertEqual(client["CallbackURLs"], ["<Api.ApiEndpoint>/console"])
        self.assertEqual(client["LogoutURLs"], client["CallbackURLs"])
        environment = functions(main)["Console"]["Environment"]["Variables"]
        self.assertEqual(environment["CONSOLE_CLIENT_ID"], "<Api.Outputs.ConsoleClientId>")
        self.assertEqual([environment["CONSOLE_SCOPE"]], client["AllowedOAuthScopes"])
        accepted = api.of_type("AWS::ApiGatewayV2::Route")["CreateOrderRoute"]["AuthorizationScopes"]
        self.assertIn(environment["CONSOLE_SCOPE"], accepted)
        pages = "http://<after <Api.Outputs.ApiUrl>>" if main.parameters["Stage"] == "local" else "https://<MachineDomain>.auth.us-east-1.amazoncognito.com"
        self.assertEqual([environment[f"CONSOLE_{name}_URL"] for name in ("AUTHORIZE", "TOKEN", "LOGOUT")],
                         [f"{pages}/oauth2/authorize", f"{pages}/oauth2/token", f"{pages}/logout"])

    def test_the_console_can_sign_in_with_another_issuer(self):
        main = stack("dev", Issuer="https://id.example", Audience="orders", ConsoleClientId="c-1",
                     ConsoleAuthorizeUrl="https://id.example/authorize", ConsoleTokenUrl="https://id.example/token")
        environment = functions(main)["Console"]["Environment"]["Variables"]
        told = {name: value for name, value in environment.items() if name.startswith("CONSOLE_")}
        self.assertEqual(told, {"CONSOLE_CLIENT_ID": "c-1", "CONSOLE_AUTHORIZE_URL": "https://id.example/authorize", "CONSOLE_SCOPE": "openid",
                                "CONSOLE_TOKEN_URL": "https://id.example/token", "CONSOLE_LOGOUT_URL": ""})

    def test_the_console_signs_in_over_https_or_on_the_browsers_own_machine(self):
        for name in ("ConsoleAuthorizeUrl", "ConsoleTokenUrl", "ConsoleLogoutUrl"):
            pattern = source("template.yaml")["Parameters"][name]["AllowedPattern"]
            for url, may in [("", True), ("https://id.example/token", True), ("http://127.0.0.1:8080/token", True), ("http://id.example/token", False),
                             ("http://127.0.0.1.example/token", False), ("http://127.0.0.1:8080@id.example/token", False), ("javascript:alert(1)", False)]:
                self.assertEqual(re.fullmatch(pattern, url) is not None, may, f"{name}={url}")

    def test_another_issuer_needs_no_pool(self):
        main = stack("dev", Issuer="https://id.example", Audience="orders")
        for part in all_stacks(main):
            self.assertEqual([name for name, resource in part.resources.items() if "Cognito" in resource["Type"]], [])
        authorizer, = main.child("AWS::ApiGatewayV2::Authorizer").of_type("AWS::ApiGatewayV2::Authorizer").values()
        self.assertEqual(authorizer["JwtConfiguration"], {"Issuer": "https://id.example", "Audience": ["orders"]})


# ---------------------------------------------------------------- the state machine


MACHINES = ["Fulfilment", "FulfilmentExpress"]


def definition(main: Stack, name: str) -> dict:
    machine = main.of_type("AWS::StepFunctions::StateMachine")[name]
    text = (ROOT / machine["DefinitionS3Location"]["Key"]).read_text()
    for name, value in machine["DefinitionSubstitutions"].items():
        text = text.replace("${%s}" % name, value)
    return json.loads(text)


class StateMachines(unittest.TestCase):
    @in_every_stage
    def test_both_are_made_of_one_definition_and_differ_in_numbers_and_where_they_lead(self, main):
        standard, express = (main.of_type("AWS::StepFunctions::StateMachine")[name] for name in MACHINES)
        self.assertEqual((standard["StateMachineType"], express["StateMachineType"]), ("STANDARD", "EXPRESS"))
        self.assertEqual(standard["DefinitionS3Location"], express["DefinitionS3Location"])
        substituted, other = standard["DefinitionSubstitutions"], express["DefinitionSubstitutions"]
        self.assertEqual(set(substituted), set(other))
        self.assertEqual({name for name in substituted if substituted[name] != other[name]},
                         {"TimeoutSeconds", "Retries", "RetriesOfFlag", "RetriesOfWhatHasNotRun", "HandsOver", "HandOverTo", "IfNotFlagged"})

    @in_every_stage
    def test_reconcile_waits_for_longer_than_an_express_execution_can_last(self, main):
        text = (ROOT / "shared" / "application" / "src" / "reconcile.rs").read_text()
        limit, patience = (60 * int(re.search(rf"pub const {name}: TimeDelta = TimeDelta::minutes\((\d+)\);", text)[1])
                           for name in ("EXPRESS_LIMIT", "PATIENCE"))
        self.assertEqual(definition(main, "FulfilmentExpress")["TimeoutSeconds"], limit)
        self.assertTrue(limit <= 300, "no Express execution lasts longer")
        self.assertGreaterEqual(patience, limit + 60)

    @in_every_stage
    def test_a_timeline_tells_of_the_tries_and_pauses_that_a_standard_execution_has(self, main):
        text = (ROOT / "shared" / "adapters" / "src" / "step_functions.rs").read_text()
        tries, of_validation = (int(re.search(rf"const {name}: usize = (\d+);", text)[1]) for name in ("TRIES", "TRIES_OF_VALIDATION"))
        flag = re.search(r'const FLAG: &str = "(\w+)";', text)[1]
        states = definition(main, "Fulfilment")["States"]
        steps = {name: state for name, state in states.items() if state["Type"] == "Task" and name not in (flag, "HandOver")}
        self.assertEqual(len(steps), 10)
        for name, state in steps.items():
            self.assertEqual(state["Retry"][-1]["MaxAttempts"] + 1, of_validation if name == "ValidateOrder" else tries, name)
            step = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
            self.assertIn(f"'step': '{step}'", state["Catch"][-1]["Output"])
        pause, = (state for state in states.values() if state["Type"] == "Wait")
        pauses = functions(main)["GetTimeline"]["Environment"]["Variables"]["PAUSES_IN_SECONDS"]
        self.assertEqual(pause["Seconds"], "{% $ceil([" + pauses + "][[$states.input.pauses, 0][0]] * (1 + $random() / 2)) %}")

    @in_every_stage
    def test_tasks_wait_longer_than_their_functions_may_take_and_may_call_them(self, main):
        for machine in MACHINES:
            may = {resource for action, resource in grants(main, machine + "Role") if action == "lambda:InvokeFunction"}
            tasks = {name: state for name, state in definition(main, machine)["States"].items() if state["Type"] == "Task"}
            del tasks["HandOver"]
            # The functions themselves are called by executions that were begun before there were aliases.
            steps = {called(state["Resource"]) for state in tasks.values()}
            self.assertEqual(may, {f"<{step}Aliaslive>" for step in steps} | {f"<{step}.Arn>" for step in steps})
            for name, state in tasks.items():
                self.assertGreater(state["TimeoutSeconds"], functions(main)[called(state["Resource"])]["Timeout"], name)

    @in_every_stage
    def test_the_express_one_alone_hands_over_and_may_start_the_standard_one(self, main):
        def started(role):
            return [resource for action, resource in grants(main, role) if action == "states:StartExecution"]

        self.assertEqual((started("FulfilmentRole"), started("FulfilmentExpressRole")), ([], ["<Fulfilment>"]))
        self.assertEqual((started("StartFulfilmentRole"), started("ReconcileRole")), (["<FulfilmentExpress>"], ["<Fulfilment>"]))
        hand_over = definition(main, "FulfilmentExpress")["States"]["HandOver"]
        alias = "" if main.parameters["Stage"] == "local" else "Alias"
        self.assertEqual(hand_over["Arguments"]["StateMachineArn"], f"<Fulfilment{alias}>")
        # Beside `.sync`, nothing is asked of EventBridge, and no event rule is needed.
        self.assertEqual(hand_over["Resource"], "arn:aws:states:::states:startExecution")
        conditions = {machine: [rule["Next"] for rule in definition(main, machine)["States"]["MayItGoOnByItself"]["Choices"]
                                if rule["Condition"] == "{% true %}"] for machine in MACHINES}
        self.assertEqual(conditions, {"Fulfilment": [], "FulfilmentExpress": ["HandOver"]})

    @in_every_stage
    def test_limits_of_the_definition(self, main):
        for machine in (definition(main, name) for name in MACHINES):
            self.assertLessEqual(len(json.dumps(machine)), 1_048_576)
            self.assertNotIn("${", json.dumps(machine), "a placeholder that nothing fills")
            self.assertTrue(1 <= machine["TimeoutSeconds"] <= 31_536_000)
            self.assertLessEqual(len(main.name) + 40, 80)  # what CloudFormation adds to make a name
            states, reached = machine["States"], set()
            ways = [machine["StartAt"]]
            while ways:
                name = ways.pop()
                self.assertLessEqual(len(name), 80)
                if name not in reached:
                    reached.add(name)
                    ways += re.findall(r'"(?:Next|Default)": "([^"]+)"', json.dumps(states[name]))
            self.assertEqual(reached, set(states), "states that nothing leads to")

    @in_every_stage
    def test_a_step_that_refuses_leads_to_the_release_without_a_pause(self, main):
        """What a refused order holds is others' to buy."""
        for machine in MACHINES:
            states = definition(main, machine)["States"]
            state, = (catch["Next"] for catch in states["ProcessPayment"]["Catch"] if "PaymentDeclined" in catch["ErrorEquals"])
            for _ in range(3):
                self.assertEqual(states[state]["Type"], "Task", state)
                if state == "ReleaseInventory":
                    break
                state = states[state]["Next"]
            self.assertEqual(state, "ReleaseInventory")

    @in_every_stage
    def test_retries_and_catches_are_in_order(self, main):
        for name, state in [state for machine in MACHINES for state in definition(main, machine)["States"].items()]:
            for field in ("Retry", "Catch"):
                errors = [rule["ErrorEquals"] for rule in state.get(field, [])]
                with self.subTest(name, field=field):
                    everything = [number for number, equals in enumerate(errors) if "States.ALL" in equals]
                    self.assertIn(everything, ([], [len(errors) - 1]), "what follows States.ALL is never looked at")
                    self.assertTrue(all(equals == ["States.ALL"] for equals in errors if "States.ALL" in equals))
                for rule in state.get("Retry", []):
                    self.assertTrue(1 <= rule.get("IntervalSeconds", 1) <= 99_999_999)
                    self.assertTrue(0 <= rule.get("MaxAttempts", 3) <= 99_999_999)
                    self.assertGreaterEqual(rule.get("BackoffRate", 2.0), 1.0)
                    self.assertTrue(rule.get("IntervalSeconds", 1) < rule.get("MaxDelaySeconds", 31_622_399) < 31_622_400)

    @in_every_stage
    def test_a_rebuild_outlasts_its_function_and_tries_nothing_again_that_is_refused(self, main):
        source = (ROOT / "functions" / "rebuild-orders" / "src" / "main.rs").read_text()
        # What may pass; and what only `make deploy` is told, which adopts.
        refusals = set(re.findall(r'Self::\w+ => "(\w+)"', source)) - {"Overtaken", "NotNew"}
        longest = functions(main)["RebuildOrders"]["Timeout"]
        slice_minutes = int(re.search(r"const SLICE: Duration = Duration::from_mins\((\d+)\);", source)[1])
        self.assertLess(60 * slice_minutes + 27, longest, "a slice, and the page that is begun in it")
        # A history has room for 25,000 entries: seven for each slice, of the function and of the choice whether there is more. With all its segments
        # at work all the time, an execution ends by itself before it would be ended for that.
        segments = int(re.search(r'"--segments", type=int, default=(\d+)', (ROOT / "infra/rebuild.py").read_text())[1])
        slices = definition(main, "Rebuild")["TimeoutSeconds"] / (60 * slice_minutes)
        self.assertLess(7 * segments * slices, 0.9 * 25_000, "the rest is for tries that fail")
        states = definition(main, "Rebuild")["States"]
        parts = [part for state in states.values() for part in state.get("ItemProcessor", {"States": {}})["States"].values()]
        tasks = [state for state in [*states.values(), *parts] if state["Type"] == "Task"]
        self.assertEqual([task["Arguments"]["action"] for task in tasks], ["switch", "retire", "clear", "work", "compare"])
        # What writes or reads much does so at a pace. It is handed on from state to state, as null where there is none: an argument that is undefined
        # fails the execution.
        paced = [task["Arguments"]["action"] for task in tasks if task["Arguments"].get("units_per_second") == "{% $states.input.units %}"]
        self.assertEqual(paced, ["clear", "work", "compare"])
        self.assertEqual(states["Switch"]["Output"], "{% $states.input %}")
        self.assertEqual(states["Retire"]["Output"]["units"], "{% $exists($states.input.clear_units) ? $states.input.clear_units : null %}")
        self.assertEqual(states["Clear"]["Output"]["units"], "{% $states.input.units %}")
        for task in tasks:
            self.assertGreater(task["TimeoutSeconds"], longest)
            refused, passing = task["Retry"]
            self.assertEqual((set(refused["ErrorEquals"]), refused["MaxAttempts"]), (refusals, 0))
            self.assertEqual(passing["ErrorEquals"], ["States.ALL"])

    @in_every_stage
    def test_they_log_errors_without_data_to_a_group_that_is_named_as_log_delivery_wants_it(self, main):
        for machine in main.of_type("AWS::StepFunctions::StateMachine").values():
            logging = machine["LoggingConfiguration"]
            self.assertEqual((logging["Level"], logging["IncludeExecutionData"]), ("ERROR", False))
            destination, = logging["Destinations"]
            group = destination["CloudWatchLogsLogGroup"]["LogGroupArn"]  # a log group's Arn ends in `:*`, as is asked for here
            self.assertTrue(group.endswith(".Arn>"))
            self.assertTrue(main.properties(group)["LogGroupName"].startswith("/aws/vendedlogs/"))


# ---------------------------------------------------------------- tables, logs, names


class Storage(unittest.TestCase):
    @in_every_stage
    def test_tables_define_the_attributes_that_keys_use_and_no_others(self, main):
        """`Some AttributeDefinitions are not used` is an answer of DynamoDB's, not of the emulator's."""
        for name, table in main.of_type("AWS::DynamoDB::Table").items():
            indexes = table.get("GlobalSecondaryIndexes", [])
            used = {key["AttributeName"] for keys in [table, *indexes] for key in keys["KeySchema"]}
            self.assertEqual({one["AttributeName"] for one in table["AttributeDefinitions"]}, used, name)
            self.assertLessEqual(len(indexes), 20)
            for keys in [table, *indexes]:
                self.assertIn([key["KeyType"] for key in keys["KeySchema"]], (["HASH"], ["HASH", "RANGE"]), name)
            self.assertLessEqual(sum(len(index["Projection"].get("NonKeyAttributes", [])) for index in indexes), 100)

    def test_what_cannot_be_rebuilt_outlives_its_stack_and_can_be_restored_and_nothing_else_pays_for_that(self):
        main = stack("prod", ProtectData="true")
        kept = {"EventsTable", "DeadLettersTable", "InventoryTable", "PaymentsTable", "ShipmentsTable", "NotificationsTable", "UserPool"}
        self.assertEqual({name for name, one in main.resources.items() if one.get("DeletionPolicy") == "RetainExceptOnCreate"}, kept)
        self.assertEqual(set(protected(main)), kept)
        recovery = {name: table.get("PointInTimeRecoverySpecification", {}) for name, table in main.of_type("AWS::DynamoDB::Table").items()}
        self.assertEqual({name for name, one in recovery.items() if one.get("PointInTimeRecoveryEnabled")}, kept - {"UserPool"})
        # What is left out may stay as it was; these were restorable and protected once.
        for name in ("OrdersTable", "IndexTable"):
            table = main.resources[name]["Properties"] if "Properties" in main.resources[name] else main.resources[name]
            self.assertEqual((recovery[name], table["DeletionProtectionEnabled"]), ({"PointInTimeRecoveryEnabled": False}, False))

    @in_every_stage
    def test_a_table_takes_no_more_than_somebody_has_decided(self, main):
        """Without a bound, an account's quota is one: 40,000 units a second are $90 an hour, for each table."""
        for name, table in main.of_type("AWS::DynamoDB::Table").items():
            units = table["OnDemandThroughput"]
            self.assertEqual(set(units), {"MaxReadRequestUnits", "MaxWriteRequestUnits"}, name)
            self.assertTrue(all(1 <= int(most) <= 40_000 for most in units.values()), name)
            for index in table.get("GlobalSecondaryIndexes", []):
                # It is bounded apart; but not on the emulator, which would give the numbers back as texts.
                self.assertEqual(index.get("OnDemandThroughput"), None if main.parameters["Stage"] == "local" else units, name)

    @in_every_stage
    def test_what_goes_by_itself_has_the_attribute_that_says_when(self, main):
        aging = {name: table["TimeToLiveSpecification"] for name, table in main.of_type("AWS::DynamoDB::Table").items() if "TimeToLiveSpecification" in table}
        self.assertEqual(aging, dict.fromkeys(["LimitsTable", "CountersTable", "DeadLettersTable"], {"AttributeName": "expires_at", "Enabled": True}))
        self.assertIn("SET full_at = :full_at, expires_at = :expires_at", (ROOT / "shared/adapters/src/dynamodb/limits.rs").read_text())
        self.assertIn('("expires_at", ', (ROOT / "shared/adapters/src/dynamodb/processes.rs").read_text())
        self.assertIn("expires_at: at.", (ROOT / "shared/adapters/src/dynamodb/dead_letters.rs").read_text())

    @in_every_stage
    def test_logs_are_kept_for_a_time_that_there_is(self, main):
        allowed = {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
        for part in all_stacks(main):
            for name, group in part.of_type("AWS::Logs::LogGroup").items():
                self.assertIn(int(group["RetentionInDays"]), allowed, name)
                self.assertRegex(group["LogGroupName"], r"^[\w/.#-]{1,512}$")
        self.assertLessEqual(set(source("template.yaml")["Parameters"]["LogRetentionDays"]["AllowedValues"]), allowed)

    @in_every_stage
    def test_names_are_such_as_aws_takes(self, main):
        self.assertRegex(main.name, r"^[a-zA-Z][a-zA-Z0-9-]{0,127}$")
        for bus in main.of_type("AWS::Events::EventBus").values():
            self.assertRegex(bus["Name"], r"^[\w.-]{1,256}$")
        for pool in main.of_type("AWS::Cognito::UserPool").values():
            self.assertRegex(pool["UserPoolName"], r"^[\w\s+=,.@-]{1,128}$")
        for api in main.child("AWS::ApiGatewayV2::Api").of_type("AWS::ApiGatewayV2::Api").values():
            self.assertLessEqual(len(api["Name"]), 128)


# ---------------------------------------------------------------- settings


class Configuration(unittest.TestCase):
    @in_every_stage
    def test_appconfig_deploys_no_document_that_the_functions_would_not_take(self, main):
        (profile,) = main.of_type("AWS::AppConfig::ConfigurationProfile").values()
        (validator,) = profile["Validators"]
        self.assertEqual(validator["Type"], "JSON_SCHEMA")
        self.assertLessEqual(len(validator["Content"]), 32_768)
        schema = json.loads(validator["Content"])
        jsonschema.Draft4Validator.check_schema(schema)
        self.assertEqual(schema["$schema"], jsonschema.Draft4Validator.META_SCHEMA["id"])
        taken = jsonschema.Draft4Validator(schema).is_valid
        documents = json.loads((ROOT / "shared/settings/tests/documents.json").read_text())  # the functions' code is held to them, too
        (first,) = main.of_type("AWS::AppConfig::HostedConfigurationVersion").values()
        self.assertTrue(taken(json.loads(first["Content"])))
        for verdict, expected in [("good", True), ("wrong", False), ("wrong to the code alone", True)]:
            for document in documents[verdict]:
                self.assertEqual(taken(document), expected, document)

    @in_every_stage
    def test_a_call_of_a_provider_ends_before_the_function_that_makes_it(self, main):
        """With the slowest deadline that settings take, and time for the function's own calls: a step that is cut off could not say why."""
        (profile,) = main.of_type("AWS::AppConfig::ConfigurationProfile").values()
        provider = json.loads(profile["Validators"][0]["Content"])["definitions"]["provider"]
        longest = provider["properties"]["deadline_ms"]["maximum"] / 1000
        tries = int(re.search(r"const TRIES: u32 = (\d+);", (ROOT / "shared/application/src/fulfilment/confirmation.rs").read_text())[1])
        callers = {name: function for name, function in functions(main).items()
                   if "DISCOVERY_NAMESPACE" in function["Environment"]["Variables"] and name != "Health"}
        self.assertGreater(len(callers), 10)
        for name, function in callers.items():
            calls = tries if name in ("SendConfirmation", "CloseOrder") else 1
            self.assertGreaterEqual(function["Timeout"], calls * longest + 3, name)

    @in_every_stage
    def test_the_pauses_of_an_order_outlast_a_breaker_that_is_open(self, main):
        """By the numbers that nobody has turned."""
        default = int(re.search(r"open_seconds: (\d+),", (ROOT / "shared/settings/src/lib.rs").read_text())[1])
        packaged = (ROOT / f"infra/config/{main.parameters['Stage']}.toml").read_text()
        pauses = functions(main)["GetTimeline"]["Environment"]["Variables"]["PAUSES_IN_SECONDS"].split(", ")
        for port in ("inventory", "payments", "shipping", "notifications"):
            turned = re.search(rf"^{port}\.breaker = {{ open_seconds = (\d+) }}$", packaged, re.M)
            self.assertGreaterEqual(int(pauses[0]), int(turned[1]) if turned else default, port)

    @in_every_stage
    def test_settings_that_functions_refuse_are_taken_back(self, main):
        (environment,) = main.of_type("AWS::AppConfig::Environment").values()
        (monitor,) = environment["Monitors"]
        alarm = main.properties(monitor["AlarmArn"])
        (metric,) = main.of_type("AWS::Logs::MetricFilter").values()
        (counted,) = metric["MetricTransformations"]
        self.assertEqual((alarm["Namespace"], alarm["MetricName"]), (counted["MetricNamespace"], counted["MetricName"]))
        self.assertEqual((alarm["Threshold"], alarm["TreatMissingData"]), (0, "notBreaching"))
        self.assertNotIn("ActionsEnabled", alarm, "AppConfig takes nothing back for an alarm whose actions are disabled")
        message = re.search('"([^"]+)"', metric["FilterPattern"])[1]
        self.assertIn(f'error!(error = %bad, "{message}")', (ROOT / "shared/settings/src/live.rs").read_text())
        (strategy,) = main.of_type("AWS::AppConfig::DeploymentStrategy").values()
        watched = int(strategy["FinalBakeTimeInMinutes"]) * 60
        if main.parameters["Stage"] == "local":
            self.assertEqual(watched, 0)
        else:  # the time that a metric filter and an alarm take is what is left
            settings = (ROOT / "shared/settings/src/lib.rs").read_text()
            self.assertIn(f"/// Above {watched - 3 * alarm['Period']}, functions that run may find a document wrong", settings)
            self.assertLess(int(re.search(r"poll_seconds: (\d+),", settings)[1]), watched - 3 * alarm["Period"], "the default")

    def test_make_config_waits_while_appconfig_begins_no_deployment_or_would_take_it_back(self):
        def obstacle(*states: str, **alarm) -> str:
            profile = object.__new__(config.Profile)
            profile.application, profile.environment = {"ApplicationId": "a"}, {"EnvironmentId": "e"}
            profile.client, profile.alarms = unittest.mock.Mock(), unittest.mock.Mock()
            profile.client.list_deployments.return_value = {"Items": [{"State": state} for state in states]}
            profile.client.get_environment.return_value = {"Monitors": [{"AlarmArn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:refused"}]}
            profile.alarms.describe_alarms.return_value = {"MetricAlarms": [{"AlarmName": "refused", "StateValue": "OK", "ActionsEnabled": True} | alarm]}
            found = profile.obstacle()
            if profile.alarms.describe_alarms.called:
                profile.alarms.describe_alarms.assert_called_once_with(AlarmNames=["refused"])
            return found

        over = {"COMPLETE", "ROLLED_BACK", "REVERTED"}
        known = botocore.session.get_session().get_service_model("appconfig").shape_for("DeploymentState").enum
        self.assertEqual(over | set(config.UNDER_WAY), set(known))
        self.assertEqual({state for state in known if obstacle("COMPLETE", state)}, set(config.UNDER_WAY))
        self.assertIn("refused rings", obstacle("COMPLETE", StateValue="ALARM"))
        self.assertEqual(obstacle("ROLLED_BACK", StateValue="ALARM", ActionsEnabled=False), "")

    @in_every_stage
    def test_the_first_document_is_deployed_when_its_alarm_has_been_there_for_longest(self, main):
        """AppConfig takes a document back also while an alarm has no data, which is how each begins; where missing data counts as well, that ends
        with its first evaluation."""
        graph = waits_for(main)
        self.assertEqual(graph["SettingsRefused"], set())
        before, further = set(), {"ConfigurationDeployment"}
        while further:
            before |= further
            further = set().union(*(graph[name] for name in further)) - before
        self.assertLessEqual({"CreateOrder", "Fulfilment", "Api", "Alarms"}, before, "what takes minutes to be made")


    def test_no_deployment_goes_over_what_operators_have_set(self):
        """To CloudFormation, all of an `AWS::AppConfig::Deployment` is made once: another one takes its place when its tags change, which the
        stack's are, and deploys the first document again."""
        (name,) = stack("prod").of_type("AWS::AppConfig::Deployment")
        everything, kept = deploy.STACK_POLICY["Statement"]
        self.assertEqual(everything, {"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"})  # what no policy names may not be updated
        self.assertEqual(kept, {"Effect": "Deny", "Principal": "*", "Action": "Update:Replace", "Resource": f"LogicalResourceId/{name}"})
        self.assertEqual([stage for stage in STAGES if "tags" in settings(stage, "deploy")], [])


class Pages(unittest.TestCase):
    """Figures on pages that follow from the templates, and were others once."""

    def test_pages_count_what_there_is(self):
        main = stack("prod", **EVERYTHING)
        stage, = main.child("AWS::ApiGatewayV2::Stage").of_type("AWS::ApiGatewayV2::Stage").values()
        let_in = sum(throttle["ThrottlingRateLimit"] for throttle in stage["RouteSettings"].values())
        in_network = sum("VpcConfig" in function for function in functions(main).values())
        read_settings = sum("CONFIGURATION" in function["Environment"]["Variables"] for function in functions(main).values())
        deploy, cost = ((ROOT / "docs" / page).read_text() for page in ("deploy.md", "cost.md"))
        for page, told in [(deploy, f"five of the {len(functions(main))} functions"),
                           (deploy, f"{let_in} in all, of them {stage['RouteSettings']['POST /api/v1/orders']['ThrottlingRateLimit']} new orders"),
                           (deploy, f"put the {in_network} functions that call providers"),
                           (cost, f"Each warm process of the {read_settings} functions")]:
            self.assertTrue(told in page, f"no page says: {told}")

    def test_what_is_left_out_of_an_orders_price_is_told_by_list_prices(self):
        prices = json.loads((ROOT / "infra/cost/prices.json").read_text())
        page, hours = (ROOT / "docs/cost.md").read_text(), prices["assumptions"]["hours_a_month"]
        busy, each = 100 * 30 * 24 * 3600, {name: price["usd"] / price["per"] for name, price in prices["told_apart"].items()}
        for told in (f"busy day and night come to ${busy / 30 * each['appconfig_call']:.2f} a month",
                     f"begin in a day come to ${30 * 1000 * each['appconfig_document']:.2f} a month",
                     f"one service come to ${busy / 30 * each['cloud_map_call']:.2f} a month",
                     f"one token come to ${busy / 300 * each['secret_read']:.2f} a month",
                     f"four endpoints in two zones come to ${4 * 2 * hours * each['interface_endpoint_hour']:.2f} a month",
                     f"a NAT gateway in each of them to ${2 * hours * each['nat_gateway_hour']:.2f}"):
            self.assertTrue(told in page, f"no page says: {told}")

    def test_every_parameter_is_told_of(self):
        told = (ROOT / "docs/deploy.md").read_text()
        self.assertEqual([name for name in source("template.yaml")["Parameters"] if f"`{name}" not in told and f" {name}=" not in told and name != "Stage"], [])


if __name__ == "__main__":
    unittest.main()

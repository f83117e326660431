"""Shows and changes what functions go by while they run: `make config`, with SET='field=value; ...' or RESET=1.

What is deployed is a document of AppConfig, which lies over the defaults and the stage's file in infra/config. Every document is
checked as AppConfig checks it, by the profile's JSON Schema, and as the functions do, by the program `settings`, before it is
deployed. Needs botocore, jsonschema (which SAM brings along) and cargo.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import botocore.session
import jsonschema
from botocore.exceptions import BotoCoreError, ClientError

from tools import show, show_now_and_then

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra" / "local"))
import stack  # noqa: E402

# How long a deployment may take until all functions are given the new document, and how long it is watched at most (template.yaml).
PATIENCE = 120
WATCHED = 6 * 60
# A deployment in one of these is not over, and AppConfig begins no other.
UNDER_WAY = ("VALIDATING", "DEPLOYING", "BAKING", "ROLLING_BACK")


class Profile:
    """The stack's configuration profile."""

    def __init__(self, stack: str):
        session = botocore.session.get_session()
        client = lambda service: session.create_client(service, region_name=session.get_config_variable("region") or "us-east-1")  # noqa: E731
        description = client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in description["Outputs"]}
        application, environment, profile = outputs["Configuration"].split("/")
        self.application, self.environment = {"ApplicationId": application}, {"EnvironmentId": environment}
        self.profile, self.strategy = {"ConfigurationProfileId": profile}, outputs["ConfigurationStrategy"]
        self.client, self.alarms = client("appconfig"), client("cloudwatch")
        function = client("lambda").get_function_configuration(FunctionName=f"{stack}-create-order", Qualifier="live")
        variables = function["Environment"]["Variables"]
        self.variables = {name: value for name, value in variables.items() if name == "STAGE" or name.startswith("APP__")}

    def document(self) -> dict:
        """What was deployed last, and not rolled back."""
        deployments = self.client.list_deployments(**self.application, **self.environment, MaxResults=50)["Items"]
        for number in sorted((deployment["DeploymentNumber"] for deployment in deployments), reverse=True):
            deployment = self.client.get_deployment(**self.application, **self.environment, DeploymentNumber=number)
            if deployment["ConfigurationProfileId"] == self.profile["ConfigurationProfileId"] and \
                    deployment["State"] in ("DEPLOYING", "BAKING", "COMPLETE"):
                version = self.client.get_hosted_configuration_version(
                    **self.application, **self.profile, VersionNumber=int(deployment["ConfigurationVersion"]))
                return json.loads(version["Content"].read() or b"{}")
        return {}

    def check(self, document: dict) -> dict:
        """Each setting with its value and layer. What is wrong in the schema's terms is refused here because the emulator takes it."""
        for validator in self.client.get_configuration_profile(**self.application, **self.profile).get("Validators", []):
            wrong = jsonschema.exceptions.best_match(jsonschema.Draft4Validator(json.loads(validator["Content"])).iter_errors(document))
            if wrong:  # without the value, which may be a token that does not belong there
                sys.exit(f"error: {'.'.join(map(str, wrong.path)) or 'the document'} is not as the schema says: {wrong.validator} {wrong.validator_value}")
        run = subprocess.run([stack.program("settings")], cwd=ROOT, text=True, timeout=60,
                             input=json.dumps(document), stdout=subprocess.PIPE, env=os.environ | self.variables)
        if run.returncode:
            sys.exit(run.returncode)
        return json.loads(run.stdout)

    def wait_for_the_last(self):
        until = time.monotonic() + WATCHED
        while obstacle := self.obstacle():
            if time.monotonic() > until:
                sys.exit(f"error: {obstacle}, and that does not come to an end")
            show_now_and_then(obstacle)
            time.sleep(2)

    def obstacle(self) -> str:
        """Why AppConfig would begin no deployment, or take it back at once; nothing if it would not."""
        deployments = self.client.list_deployments(**self.application, **self.environment, MaxResults=10)["Items"]
        if any(deployment["State"] in UNDER_WAY for deployment in deployments):
            return "The last deployment is still being watched"
        monitors = self.client.get_environment(**self.application, **self.environment).get("Monitors", [])
        names = [monitor["AlarmArn"].partition(":alarm:")[2] for monitor in monitors]
        alarms = self.alarms.describe_alarms(AlarmNames=names)["MetricAlarms"] if names else []  # no names would be all alarms
        # AppConfig looks at no alarm whose actions somebody has disabled.
        ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM" and alarm.get("ActionsEnabled", True)]
        return f"The alarm {ringing[0]} rings (docs/runbook.md#settingsrefused)" if ringing else ""

    def deploy(self, document: dict):
        version = self.client.create_hosted_configuration_version(
            **self.application, **self.profile, ContentType="application/json", Content=json.dumps(document).encode())
        number = self.client.start_deployment(
            **self.application, **self.environment, **self.profile, DeploymentStrategyId=self.strategy,
            ConfigurationVersion=str(version["VersionNumber"]))["DeploymentNumber"]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            state = self.client.get_deployment(**self.application, **self.environment, DeploymentNumber=number)["State"]
            if state in ("BAKING", "COMPLETE"):
                return
            if state in ("ROLLING_BACK", "ROLLED_BACK", "REVERTED"):
                sys.exit(f"error: deployment {number} was rolled back")
            time.sleep(1)
        sys.exit(f"error: deployment {number} is not done after {PATIENCE} s")


def changed(document: dict, changes: str) -> dict:
    """With each `field.of.a.section=value` laid over it; a value is JSON, or @ and the name of a file whose text it is, or else text."""
    for change in filter(str.strip, changes.split(";")):
        field, found, value = change.strip().partition("=")
        if not found:
            sys.exit(f"error: {change} must be field=value")
        if value.startswith("@"):
            value = Path(value[1:]).read_text()
        else:
            try:
                value = json.loads(value)
            except ValueError:
                pass
        *sections, name = field.split(".")
        section = document
        for part in sections:
            if not isinstance(section.get(part), dict):  # a service that was a list of URLs becomes a table
                section[part] = {}
            section = section[part]
        section[name] = value
    return document


def kept(document: dict) -> dict:
    """What orders that are under way may need: the services that they were placed with, with all that belongs to these, and who their
    e-mails are from."""
    sections = {section: document[section] for section in ("services", "secrets", "ca_bundles") if document.get(section)}
    sender = document.get("providers", {}).get("notifications", {}).get("sender")
    return sections | ({"providers": {"notifications": {"sender": sender}}} if sender else {})


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stack", required=True)
    parser.add_argument("--set", default="")
    parser.add_argument("--reset", action="store_true")
    arguments = parser.parse_args()
    try:
        profile = Profile(arguments.stack)
        if arguments.set or arguments.reset:
            profile.wait_for_the_last()
        document = profile.document()
        if arguments.reset:
            document = kept(document)
        document = changed(document, arguments.set)
        settings = profile.check(document)
        if arguments.set or arguments.reset:
            profile.deploy(document)
            seconds = settings["poll_seconds"]["value"]
            show(f"Deployed. A function that is running goes by it within {seconds} s, or what the time was before")
        else:
            width = max(len(field) for field in settings)
            for field, setting in sorted(settings.items()):
                first, *more = setting["value"].splitlines() or [""]
                print(f"{field:{width}}  {first + ' ...' if more else first:24}  {setting['layer']}")
    except (ClientError, BotoCoreError, OSError) as error:
        show(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

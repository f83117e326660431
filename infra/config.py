"""Shows and changes what functions go by while they run: `make config`, with SET='field=value; ...' or RESET=1.

What is deployed is a document of AppConfig, which lies over the defaults and the stage's file in infra/config. Every document is
checked as the functions check it, by the program `settings`, before it is deployed. Needs botocore and cargo.
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
from botocore.exceptions import BotoCoreError, ClientError

from tools import show

ROOT = Path(__file__).resolve().parents[1]
# How long a deployment may take until all functions are given the new document.
PATIENCE = 120


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
        self.client = client("appconfig")
        function = client("lambda").get_function_configuration(FunctionName=f"{stack}-create-order")
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
        """Each setting with its value and layer."""
        run = subprocess.run(["cargo", "run", "--quiet", "--locked", "--bin", "settings"], cwd=ROOT, text=True, timeout=1800,
                             input=json.dumps(document), stdout=subprocess.PIPE, env=os.environ | self.variables)
        if run.returncode:
            sys.exit(run.returncode)
        return json.loads(run.stdout)

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
    """With each `field.of.a.section=value` laid over it; a value is JSON, or else text."""
    for change in filter(str.strip, changes.split(";")):
        field, found, value = change.strip().partition("=")
        if not found:
            sys.exit(f"error: {change} must be field=value")
        try:
            value = json.loads(value)
        except ValueError:
            pass
        *sections, name = field.split(".")
        section = document
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    return document


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stack", required=True)
    parser.add_argument("--set", default="")
    parser.add_argument("--reset", action="store_true")
    arguments = parser.parse_args()
    try:
        profile = Profile(arguments.stack)
        document = profile.document()
        if arguments.reset:  # orders that were placed with a service need its address and its token for as long as they may be undone
            document = {section: document[section] for section in ("services", "secrets") if section in document}
        document = changed(document, arguments.set)
        settings = profile.check(document)
        if arguments.set or arguments.reset:
            profile.deploy(document)
            seconds = settings["poll_seconds"]["value"]
            show(f"Deployed. A function that is running goes by it within {seconds} s, or what the time was before")
        else:
            width = max(len(field) for field in settings)
            for field, setting in sorted(settings.items()):
                print(f"{field:{width}}  {setting['value']:24}  {setting['layer']}")
    except (ClientError, BotoCoreError) as error:
        show(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Builds the service for AWS, deploys it, and tries what it has deployed: `make deploy STAGE=dev`, `make smoke STAGE=dev`.

docs/deploy.md tells the whole story. The stage `local` is the emulator that `make up` has started: there everything works as
on AWS, but for the build. What only asks Python's standard library is done first; the rest runs among SAM's libraries.
"""
from __future__ import annotations

import argparse
import base64
import contextlib
import getpass
import hashlib
import hmac
import json
import os
import re
import secrets
import shlex
import struct
import sys
import time
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra" / "local"))

import stack  # noqa: E402

LIBRARIES = stack.TOOLS / "sam"
if __name__ == "__main__" and Path(sys.prefix) != LIBRARIES:
    stack.check_python()
    stack.install("sam")
    python = str(LIBRARIES / "bin" / "python")
    os.execv(python, [python, __file__, *sys.argv[1:]])

import botocore.session  # noqa: E402
import replay  # noqa: E402
import tomlkit  # noqa: E402
from botocore.exceptions import BotoCoreError, ClientError  # noqa: E402
from samcli.yamlhelper import yaml_parse  # noqa: E402
from service import Service  # noqa: E402
from stack import fail, say  # noqa: E402

SAM = LIBRARIES / "bin" / "sam"
MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}  # e_machine of an ELF header
GLIBC = (2, 34)  # of Amazon Linux 2023, where the functions run
KEPT = 3  # versions of a function, of which one is called
# CloudFormation replaces the deployment of the first settings, which are empty, when anything of it changes, and a stack's tags are those of all in it.
STACK_POLICY = {"Statement": [
    {"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"},
    {"Effect": "Deny", "Principal": "*", "Action": "Update:Replace", "Resource": "LogicalResourceId/ConfigurationDeployment"},
]}
LARGEST = 40_000_000  # bytes; the largest function has about half, and Lambda takes 50 MB of compressed code


# ---------------------------------------------------------------- stages


class Stage:
    """A deployment: what samconfig.toml says of it, and what CloudFormation knows of it."""

    def __init__(self, name: str, architecture: str | None = None, at_once: bool = False):
        self.name = name
        config = tomlkit.parse((ROOT / "samconfig.toml").read_text()).unwrap()[name]
        self.settings = config["global"]["parameters"]
        self.build_dir = config["build"]["parameters"]["build_dir"]
        self.overrides = overrides(self.settings["parameter_overrides"])
        if architecture:
            self.overrides["Architecture"] = architecture
        if at_once:
            self.overrides["DeploymentType"] = "AllAtOnce"
        self.architecture = self.overrides["Architecture"]
        if name == "local":
            emulator = stack.running() or fail("the local stack is not running; `make up` starts it")
            environment = stack.client_environment(emulator["port"])
            os.environ.clear()
            os.environ.update(environment)
        self.region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or self.settings["region"]

    def client(self, service: str):
        return botocore.session.get_session().create_client(service, region_name=self.region)

    def describe(self) -> dict | None:
        try:
            return self.client("cloudformation").describe_stacks(StackName=self.settings["stack_name"])["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def outputs(self) -> dict[str, str]:
        described = self.describe() or fail(f"there is no stack {self.settings['stack_name']} in {self.region}; `make deploy` makes it")
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    def url(self) -> str:
        """The emulator also answers under a host name of the API's own, as AWS does, but not every client can resolve that."""
        outputs, endpoint = self.outputs(), os.environ.get("AWS_ENDPOINT_URL")
        return f"{endpoint}/_aws/execute-api/{outputs['ApiId']}" if endpoint else outputs["ApiUrl"]

    def sam(self, command: str, *arguments: str, **more: str):
        parameters = as_overrides(self.overrides | more)
        path = os.pathsep.join([str(stack.TOOLS / "cargo-lambda" / "bin"), os.environ["PATH"]])  # zig lies there, too
        call = [SAM, command, *arguments, "--config-file", ROOT / "samconfig.toml", "--config-env", self.name, "--parameter-overrides", parameters]
        if stack.run_visibly(call, env=os.environ | {"PATH": path}, timeout=None):
            taken_back = "; what went over step by step was taken back, and docs/runbook.md#a-deployment-that-was-taken-back goes on from here"
            fail(f"sam {command} failed, see above{taken_back if command == 'deploy' else ''}")


def overrides(text: str) -> dict[str, str]:
    """As SAM reads them: what has spaces, or nothing in it, is in quotes."""
    return dict(pair.split("=", 1) for pair in shlex.split(text))


def as_overrides(parameters: dict[str, str]) -> str:
    """All in quotes: without, SAM passes over an empty one, and CloudFormation keeps the value of what it is not told."""
    return " ".join(f'{name}="{value}"' for name, value in parameters.items())


# ---------------------------------------------------------------- what is deployed


def build(stage: Stage) -> Path:
    """Returns the template that names the folders of the functions. The emulator gets what the tests are run with."""
    if stage.name == "local":
        stack.build()
        return stack.PACKED / "template.yaml"
    stack.install("cargo-lambda")
    say(f"Building the functions for {stage.architecture} (many minutes the first time)")
    stage.sam("build")
    return ROOT / stage.build_dir / "template.yaml"


def check(template: Path, architecture: str, released: bool):
    """Ends this script unless every function of a built template is what is to be deployed."""
    resources = yaml_parse(template.read_text())["Resources"]
    functions = {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == "AWS::Serverless::Function"}
    found = [f"{name}: {wrong}" for name, properties in functions.items()
             if (wrong := what_is_wrong(template.parent / properties["CodeUri"] / "bootstrap", architecture, released))]
    if found:
        fail("these are not to be deployed:\n" + "\n".join(found))


def what_is_wrong(bootstrap: Path, architecture: str, released: bool) -> str | None:
    """What an executable has that must not run on Lambda; `None` is nothing. What is not released need not be a release build."""
    try:
        image = bootstrap.read_bytes()
    except FileNotFoundError:
        return f"{bootstrap} is not there, so it was not built"
    if image[:6] != b"\x7fELF\x02\x01":
        return "it is no executable for 64-bit Linux"
    machine, = struct.unpack_from("<H", image, 18)
    if machine != MACHINES[architecture]:
        return f"it is for another machine than {architecture} (e_machine {machine:#x})"
    if not released:
        return None
    start, = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    kinds = [struct.unpack_from("<I", image, start + size * number + 4)[0] for number in range(count)]
    if 2 in kinds:  # SHT_SYMTAB
        return "it has its symbols, so it is no release build"
    if b"attempt to add with overflow" in image:  # a check that the profile `release` leaves out
        return "it was built with the profile of tests, not with `release`"
    needed = max((tuple(map(int, version.split(b"."))) for version in re.findall(rb"GLIBC_(\d+\.\d+)\0", image)), default=(0, 0))
    if needed > GLIBC:
        return f"it needs glibc {needed[0]}.{needed[1]}, and Lambda has {GLIBC[0]}.{GLIBC[1]}"
    if len(image) > LARGEST:
        return f"it has {len(image):,} bytes, more than {LARGEST:,}"
    return None


def artefact(arguments):
    """Builds one function exactly as it ships, and says what came out."""
    stage, folder = Stage("prod", arguments.architecture), ".aws-sam/artefact"
    stack.install("cargo-lambda")
    began = time.monotonic()
    resource = arguments.function.title().replace("-", "")
    stage.sam("build", resource, "--build-dir", folder)
    bootstrap = ROOT / folder / resource / "bootstrap"
    if wrong := what_is_wrong(bootstrap, stage.architecture, released=True):
        fail(f"{arguments.function}: {wrong}")
    print(f"{arguments.function} for {stage.architecture}: {bootstrap.stat().st_size:,} bytes, built in {time.monotonic() - began:.0f} s")


# ---------------------------------------------------------------- deployment


def deploy(arguments):
    if arguments.seed and arguments.stage == "prod":
        fail("prod gets no products that nobody sells")
    stage = Stage(arguments.stage, arguments.architecture, arguments.at_once)
    described = stage.describe()
    if described and described["StackStatus"].endswith("_IN_PROGRESS") and described["StackStatus"] != "REVIEW_IN_PROGRESS":
        fail(f"somebody is at work on {described['StackName']} ({described['StackStatus']})")
    if nobody_is_called(stage, described):
        fail("prod needs an SNS topic, or nobody would hear of orders that are stuck. Make one, and have it call you:\n"
             "  aws sns create-topic --name order-service-prod --query TopicArn --output text\n"
             "  aws sns subscribe --topic-arn ARN --protocol email --notification-endpoint you@example.com\n"
             "Then add AlarmTopicArn=ARN to prod's parameter_overrides in samconfig.toml (docs/deploy.md)")
    replayed = replay.check(arguments.replay, None, arguments.accept) if arguments.replay else None
    template = build(stage)
    check(template, stage.architecture, released=stage.name != "local")
    if described and described["StackStatus"] in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
        remove_what_never_came_up(stage)
        described = None
    parameters = effective_parameters(stage, template, described)
    if wrong := what_cannot_stay_warm(parameters):
        fail(wrong)
    told = stack.local_parameters() if stage.name == "local" else json.dumps(parameters, sort_keys=True)
    template = stack.stamped(template, told + what_was_taken_back(described))
    say(f"Deploying {stage.settings['stack_name']} to {os.environ.get('AWS_ENDPOINT_URL') or stage.region}")
    if described and (minutes := re.fullmatch(r"Canary10Percent(\d+)Minutes", parameters["DeploymentType"])):
        print(f"For {minutes[1]} minutes, new versions get a tenth of the calls. An alarm takes all of the deployment back, and so does, in another terminal:\n"
              f"  aws cloudformation cancel-update-stack --region {stage.region} --stack-name {stage.settings['stack_name']}\n"
              "To go back later, check the older version out and deploy it with AT_ONCE=1 (docs/deploy.md)")
    stage.sam("deploy", "--template-file", str(template), "--region", stage.region)
    stage.client("cloudformation").set_stack_policy(StackName=stage.settings["stack_name"], StackPolicyBody=json.dumps(STACK_POLICY))
    if "NotProtected" in stage.outputs():
        say("It has come up: protecting its tables and users against deletion")
        stage.sam("deploy", "--template-file", str(template), "--region", stage.region, ProtectData="true")
    if replayed:
        replay.record(arguments.replay, replayed)
    if not described:
        ask_rebuild(stage, "adopt")
    forget_versions(stage)
    if arguments.seed:
        with temporary_user(stage, "staff") as (_, tokens):
            Service(stage.url(), tokens["AccessToken"]).seed()
    if arguments.staff:
        make_staff(stage, arguments.staff, arguments.prompt)
    tell(stage, arguments.staff)


def nobody_is_called(stage: Stage, described: dict | None) -> bool:
    """The template refuses that for prod (its Rules), but only after a build of many minutes. A parameter that is not named keeps its value."""
    kept = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in (described or {}).get("Parameters", [])}
    return stage.name == "prod" and not stage.overrides.get("AlarmTopicArn", kept.get("AlarmTopicArn"))


def effective_parameters(stage: Stage, template: Path, described: dict | None) -> dict[str, str]:
    """What is named counts, else what the stack has, else the default."""
    declared = yaml_parse(template.read_text())["Parameters"]
    defaults = {name: str(parameter["Default"]) for name, parameter in declared.items() if "Default" in parameter}
    kept = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in (described or {}).get("Parameters", [])}
    return defaults | {name: value for name, value in kept.items() if name in declared} | stage.overrides


def what_cannot_stay_warm(parameters: dict[str, str]) -> str | None:
    """What AWS would refuse after the functions have changed; a rule of the template compares no numbers."""
    least, most, reserved = (int(parameters[name]) for name in ("WarmMinimum", "WarmMaximum", "CommandConcurrency"))
    if least and most < least:
        return f"WarmMaximum={most} is less than WarmMinimum={least}"
    if least and reserved and most > reserved:
        return f"WarmMaximum={most} is more than CommandConcurrency={reserved}, which is all that create-order may run"
    return None


def what_was_taken_back(described: dict | None) -> str:
    """The last deployment, if it was. The versions that it has published are still there, and CloudFormation refuses a version that is no other
    than the newest one, so whoever deploys the same again has to have it differ in something."""
    return f" after {described.get('LastUpdatedTime')}" if described and described["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE" else ""


def forget_versions(stage: Stage):
    """Deletes versions that are neither called nor among the newest: Lambda keeps the code of all, 75 GB in a region and no more."""
    functions, resources = stage.client("lambda"), stage.client("cloudformation").get_paginator("list_stack_resources")
    names = [resource["PhysicalResourceId"] for page in resources.paginate(StackName=stage.settings["stack_name"])
             for resource in page["StackResourceSummaries"] if resource["ResourceType"] == "AWS::Lambda::Function"]
    for name in names:
        aliases = functions.list_aliases(FunctionName=name)["Aliases"]
        called = {version for alias in aliases
                  for version in [alias["FunctionVersion"], *alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})]}
        pages = functions.get_paginator("list_versions_by_function").paginate(FunctionName=name)
        versions = [version["Version"] for page in pages for version in page["Versions"] if version["Version"] != "$LATEST"]
        for version in sorted(versions, key=int, reverse=True)[KEPT:]:
            if version not in called:
                functions.delete_function(FunctionName=name, Qualifier=version)


def remove_what_never_came_up(stage: Stage):
    """A stack whose first deployment failed has no data, and can only be deleted."""
    say(f"Removing {stage.settings['stack_name']}, whose first deployment failed")
    cloudformation = stage.client("cloudformation")
    cloudformation.delete_stack(StackName=stage.settings["stack_name"])
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stage.settings["stack_name"])


def ask_rebuild(stage: Stage, action: str) -> dict:
    """Where the read model stands, after this action of `rebuild-orders`."""
    answer = stage.client("lambda").invoke(FunctionName=f"{stage.settings['stack_name']}-rebuild-orders", Qualifier="live", Payload=json.dumps({"action": action}).encode())
    standing = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        fail(f"it is deployed, but what becomes of the read model cannot be told: {standing.get('errorMessage', standing)}")
    return standing


def what_to_rebuild(stage: Stage, standing: dict) -> str:
    """The command that makes views what this version makes of the events, where they are another version's."""
    if standing["format"] == standing["builds_format"]:
        return ""
    found = f"The read model was built as format {standing['format']}, and this version writes format {standing['builds_format']}"
    if standing["building"]:
        return f"{found}: a rebuild is under way, which `make rebuild VIEW=orders STAGE={stage.name}` goes on with.\n"
    return f"{found}: run `make rebuild VIEW=orders STAGE={stage.name}` (docs/deploy.md).\n"


def tell(stage: Stage, staff: str | None):
    limit = stage.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    few = f"This account may run {limit} functions at a time, which is few: ask for more (docs/deploy.md).\n" if limit < 100 else ""
    who = staff or "you@example.com"
    print(f"""
The order service ({stage.name}) runs at {stage.url()}, and its console for staff at {stage.outputs()["ConsoleUrl"]}
{few}{what_to_rebuild(stage, ask_rebuild(stage, "status"))}
  make smoke STAGE={stage.name}{" " * 27}places an order, follows it to the end and undoes it
  make staff STAGE={stage.name} STAFF_EMAIL={who}    makes somebody staff
  make token STAGE={stage.name} WHO={who}    a token for calls
""")


# ---------------------------------------------------------------- users and tokens


def ask_person(what: str, secret: str | None = None) -> str:
    """Reads what must not be seen; from standard input, if that is no terminal."""
    if secret:
        print(f"The key for the authenticator app: {secret}", file=sys.stderr)
    return getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def totp(secret: str) -> str:
    """The six digits that an authenticator app would show now (RFC 6238)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    number, = struct.unpack_from(">I", digest, digest[-1] & 15)
    return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"


def ask_machine(_: str, secret: str | None = None) -> str:
    """For users that are made up and deleted here. Their only question is for a second factor that they have just got."""
    return totp(secret)


def sign_in(stage: Stage, username: str, password: str, ask) -> dict[str, str]:
    """Tokens. `ask` knows what Cognito may want besides the password: a new one, the code of the second factor."""
    cognito, outputs = stage.client("cognito-idp"), stage.outputs()
    client = {"UserPoolId": outputs["UserPoolId"], "ClientId": outputs["UserPoolClientId"]}
    answer = cognito.admin_initiate_auth(**client, AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                                         AuthParameters={"USERNAME": username, "PASSWORD": password})
    for _ in range(4):
        if "AuthenticationResult" in answer:
            return answer["AuthenticationResult"]
        challenge, session, responses = answer["ChallengeName"], answer["Session"], {"USERNAME": username}
        if challenge == "NEW_PASSWORD_REQUIRED":
            responses["NEW_PASSWORD"] = ask("New password, of 12 characters at least")
        elif challenge == "SOFTWARE_TOKEN_MFA":
            responses["SOFTWARE_TOKEN_MFA_CODE"] = ask("Code of the authenticator app")
        elif challenge == "MFA_SETUP":
            made = cognito.associate_software_token(Session=session)
            code = ask("Code that the app shows", made["SecretCode"])
            session = cognito.verify_software_token(Session=made["Session"], UserCode=code)["Session"]
        else:
            fail(f"Cognito asks {username} for {challenge}, which this script does not know")
        answer = cognito.admin_respond_to_auth_challenge(**client, ChallengeName=challenge, Session=session, ChallengeResponses=responses)
    fail(f"Cognito goes on asking {username}")


def token(arguments):
    stage = Stage(arguments.stage)
    print(sign_in(stage, arguments.who, ask_person(f"Password of {arguments.who}"), ask_person)["AccessToken"])


def second_factor(arguments):
    """Gives a user a second factor, where the pool does not ask everybody for one."""
    stage = Stage(arguments.stage)
    access = sign_in(stage, arguments.who, ask_person(f"Password of {arguments.who}"), ask_person)["AccessToken"]
    set_second_factor(stage, access, ask_person)
    # Whoever has signed in with the password alone could else go on from there for as long as that can be renewed.
    stage.client("cognito-idp").global_sign_out(AccessToken=access)
    print(f"From now on, {arguments.who} signs in with a second factor")


def set_second_factor(stage: Stage, access: str, ask):
    cognito = stage.client("cognito-idp")
    secret = cognito.associate_software_token(AccessToken=access)["SecretCode"]
    verified = cognito.verify_software_token(AccessToken=access, UserCode=ask("Code that the app shows", secret))
    if verified["Status"] != "SUCCESS":
        fail("Cognito does not take this code")
    cognito.set_user_mfa_preference(AccessToken=access, SoftwareTokenMfaSettings={"Enabled": True, "PreferredMfa": True})


def staff_is_withheld(stage: Stage) -> bool:
    """Whether the pool withholds the groups of staff from those without a second factor (StaffSecondFactor)."""
    pool = stage.client("cognito-idp").describe_user_pool(UserPoolId=stage.outputs()["UserPoolId"])["UserPool"]
    return "PreTokenGeneration" in pool.get("LambdaConfig", {})


def renew(stage: Stage, tokens: dict[str, str]) -> dict[str, str]:
    outputs = stage.outputs()
    return stage.client("cognito-idp").admin_initiate_auth(
        UserPoolId=outputs["UserPoolId"], ClientId=outputs["UserPoolClientId"], AuthFlow="REFRESH_TOKEN_AUTH",
        AuthParameters={"REFRESH_TOKEN": tokens["RefreshToken"]})["AuthenticationResult"]


def staff(arguments):
    make_staff(Stage(arguments.stage), arguments.email, arguments.prompt)


def supervisor(arguments):
    stage = Stage(arguments.stage)
    cognito, user = stage.client("cognito-idp"), {"UserPoolId": stage.outputs()["UserPoolId"], "Username": arguments.email}
    try:
        groups = cognito.admin_list_groups_for_user(**user)["Groups"]
    except cognito.exceptions.UserNotFoundException:
        groups = []
    if "staff" not in [group["GroupName"] for group in groups]:
        fail(f"nobody of staff is called {arguments.email}; `make staff` makes somebody staff")
    cognito.admin_add_user_to_group(**user, GroupName="supervisor")
    print(f"{arguments.email} is a supervisor")


def make_staff(stage: Stage, email: str, prompt: bool):
    """Cognito sends a password for one day by e-mail, or it is set here. It is shown and logged nowhere."""
    cognito, pool = stage.client("cognito-idp"), stage.outputs()["UserPoolId"]
    password = ask_person(f"Password for {email}, of 12 characters at least") if prompt else None
    attributes = [{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}]
    how = {"MessageAction": "SUPPRESS"} if prompt else {"DesiredDeliveryMediums": ["EMAIL"]}
    try:
        cognito.admin_create_user(UserPoolId=pool, Username=email, UserAttributes=attributes, **how)
        cognito.admin_add_user_to_group(UserPoolId=pool, Username=email, GroupName="staff")
    except cognito.exceptions.UsernameExistsException:
        groups = cognito.admin_list_groups_for_user(UserPoolId=pool, Username=email)["Groups"]
        if "staff" not in [group["GroupName"] for group in groups]:
            # Anybody may sign up, under any name: whoever has taken this one must not become staff by that.
            fail(f"there is a user {email} already, who is not staff. Make sure who that is; then add them to the group, or delete them")
        if not prompt:
            if cognito.admin_get_user(UserPoolId=pool, Username=email)["UserStatus"] != "FORCE_CHANGE_PASSWORD":
                print(f"{email} is staff already")
                return
            cognito.admin_create_user(UserPoolId=pool, Username=email, MessageAction="RESEND")  # the first one's day may be over
    if prompt:
        cognito.admin_set_user_password(UserPoolId=pool, Username=email, Password=password, Permanent=True)
    print(f"{email} is staff" + ("" if prompt else "; the password for the first day comes by e-mail"))
    if staff_is_withheld(stage):
        print(f"Until there is a second factor, {email} has no rights of staff: make second-factor STAGE={stage.name} WHO={email}")


@contextlib.contextmanager
def temporary_user(stage: Stage, *groups: str, email: str | None = None):
    """A user that is deleted again: the id (`sub`) and tokens. The address, if any, counts as verified. Where a second factor is what
    staff needs, this one gets it, and tokens anew without its code, because Cognito takes none twice within half a minute."""
    cognito, pool = stage.client("cognito-idp"), stage.outputs()["UserPoolId"]
    name, password = f"temporary-{uuid.uuid4()}", f"Aa1-{secrets.token_urlsafe(24)}"
    attributes = [{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}] if email else []
    made = cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS", UserAttributes=attributes)
    try:
        cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=password, Permanent=True)
        for group in groups:
            cognito.admin_add_user_to_group(UserPoolId=pool, Username=name, GroupName=group)
        sub = next(attribute["Value"] for attribute in made["User"]["Attributes"] if attribute["Name"] == "sub")
        tokens = sign_in(stage, name, password, ask_machine)
        if groups and staff_is_withheld(stage):
            Service(stage.url(), tokens["AccessToken"]).expect([403], "GET", "/metrics")  # or nothing is withheld
            set_second_factor(stage, tokens["AccessToken"], ask_machine)
            tokens = renew(stage, tokens)
        yield sub, tokens
    finally:
        cognito.admin_delete_user(UserPoolId=pool, Username=name)


# ---------------------------------------------------------------- the smoke test


@contextlib.contextmanager
def temporary_product(stage: Stage, staff: Service):
    product = f"smoke-{uuid.uuid4()}"
    staff.put_product({"id": product, "name": "Smoke test, not for sale", "price": {"amount": 100, "currency": "CNY"}, "stock": 1})
    try:
        yield product
    finally:
        stage.client("dynamodb").delete_item(TableName=stage.outputs()["InventoryTable"], Key={"id": {"S": f"product#{product}"}})


def smoke(arguments):
    stage = Stage(arguments.stage)
    url = stage.url()
    email = f"smoke-{uuid.uuid4()}@example.com"
    with temporary_user(stage, "staff") as (_, tokens_of_staff), temporary_user(stage, email=email) as (customer, tokens):
        staff, buyer = Service(url, tokens_of_staff["AccessToken"]), Service(url, tokens["AccessToken"])
        staff.expect([200], "GET", "/health")
        Service(url, tokens["IdToken"]).expect([401, 403], "GET", f"/api/v1/orders/customer/{customer}")
        for address, verified in [(f"another-{email}", False), (email, True)]:
            profile = buyer.expect([200, 201], "PUT", "/api/v1/customers/me", {"first_name": "Smoke", "email": address})[1]
            if profile["email_verified"] != verified:
                fail(f"{profile['id']} is said to have an address that is {'not ' if verified else ''}verified")
        try_machines(stage)
        with temporary_product(stage, staff) as product:
            order = buyer.place(customer, [product])
            print(f"Placed the order {order}")
            path = f"/api/v1/orders/{order}"
            follow(buyer, path, "confirmed")
            buyer.expect([202], "POST", f"{path}/cancel", {"reason": "it was a smoke test"})
            follow(buyer, path, "cancelled")
            stock = staff.expect([200], "GET", f"/api/v1/products/{product}")[1]["stock"]
            if stock != 1:
                fail(f"the order is cancelled, but of one {product} there are {stock} in stock")
    print("It works. The order stays in the books; its customer and its product are removed")
    print(what_to_rebuild(stage, ask_rebuild(stage, "status")), end="")


def try_machines(stage: Stage):
    """Where machines have clients, each may do its own thing and not the other's."""
    outputs = stage.outputs()
    if "TokenUrl" not in outputs:
        return
    carrier, metrics = (Service(stage.url(), machine_token(stage, outputs[name])) for name in ("CarrierClientId", "MetricsClientId"))
    delivery = f"/api/v1/orders/{uuid.uuid4()}/delivery"
    carrier.expect([404], "POST", delivery)
    metrics.expect([403], "POST", delivery)
    metrics.expect([200], "GET", "/metrics")
    carrier.expect([403], "GET", "/metrics")
    print("Machines may do what their scopes say")


def machine_token(stage: Stage, client: str) -> str:
    outputs, endpoint = stage.outputs(), os.environ.get("AWS_ENDPOINT_URL")
    described = stage.client("cognito-idp").describe_user_pool_client(UserPoolId=outputs["UserPoolId"], ClientId=client)
    basic = base64.b64encode(f"{client}:{described['UserPoolClient']['ClientSecret']}".encode()).decode()
    request = urllib.request.Request(f"{endpoint}/oauth2/token" if endpoint else outputs["TokenUrl"], data=b"grant_type=client_credentials",
                                     headers={"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())["access_token"]


def follow(buyer: Service, path: str, end: str):
    """Shows each status on the way to this one."""
    deadline, shown = time.monotonic() + 120, None
    while time.monotonic() < deadline:
        view = buyer.call("GET", path)[1]  # not there yet, for a moment after it was placed
        if isinstance(view.get("status"), str) and view["status"] != shown:
            shown = view["status"]
            print(f"  {shown}", flush=True)
        if shown == end:
            return
        if shown in ("rejected", "needs_attention"):
            break
        time.sleep(0.5)
    fail(f"{path} did not become {end} within two minutes: {json.dumps(view, ensure_ascii=False)}")


def main():
    parser = argparse.ArgumentParser(description="Deploys the order service, and tries it")
    commands = parser.add_subparsers(required=True)

    def command(run, *positional: str):
        added = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__)
        added.set_defaults(run=run)
        for name in positional:
            added.add_argument(name, **({"choices": ["local", "dev", "prod"]} if name == "stage" else {}))
        return added

    added = command(deploy, "stage")
    added.add_argument("--architecture", choices=MACHINES)
    added.add_argument("--staff", metavar="EMAIL")
    added.add_argument("--prompt", action="store_true", help="ask for the password of staff here")
    added.add_argument("--at-once", action="store_true", help="have all calls go to the new versions at once, whatever rings")
    added.add_argument("--seed", action="store_true", help="put the products of seed.json")
    added.add_argument("--replay", type=Path, metavar="EXPORT", help="only if this build makes of it what the deployed one does (replay.py)")
    added.add_argument("--accept", type=replay.accepted, default=[], metavar="FIELD,...")
    command(supervisor, "stage", "email")
    command(staff, "stage", "email").add_argument("--prompt", action="store_true", help="ask for the password here")
    command(token, "stage", "who")
    command(second_factor, "stage", "who")
    command(smoke, "stage")
    command(artefact, "function").add_argument("--architecture", choices=MACHINES, default="arm64")
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (ClientError, BotoCoreError) as error:
        fail(str(error))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

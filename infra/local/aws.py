"""What talks to the running local stack: users and products of a fresh one, tokens, the demo, the logs.

stack.py runs it with the emulator's libraries and with the emulator's endpoint and test credentials in the environment.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import botocore.session
from botocore.exceptions import ClientError, EndpointConnectionError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "infra"))

from service import Service, products  # noqa: E402

STATE = ROOT / ".local" / os.environ.get("LOCAL_STACK", "")  # as in stack.py
STACK_ENV = STATE / "stack.env"
PROVIDER = "reference-provider"
USERS = {"customer-1": [], "customer-2": [], "staff-1": ["staff", "supervisor"], "staff-2": ["staff"], "carrier-1": ["carrier"]}  # with their groups


def client(service: str):
    return botocore.session.get_session().create_client(service)


# ---------------------------------------------------------------- stack.env


def stack_outputs() -> dict[str, str]:
    stack = client("cloudformation").describe_stacks(StackName="order-service-local")["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def stack_environment() -> dict[str, str]:
    if not STACK_ENV.exists():
        sys.exit("error: the local stack is not ready; `make up` completes it")
    lines = STACK_ENV.read_text().splitlines()
    return {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines)}


def write_environment(outputs: dict[str, str], ids: dict[str, str]):
    """Lines that a shell can source; a value is quoted only where it has spaces, for readers that know no quotes."""
    values = {name: os.environ[name] for name in
              ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    values |= {shout(name): value for name, value in outputs.items()}
    values |= {shout(f"{who}-id"): sub for who, sub in ids.items()}
    values["SPANS"] = str(STATE / "spans.jsonl")
    # The emulator also answers under a host name of the API's own, but not every client can resolve that.
    values["API_URL"] = f"{values['AWS_ENDPOINT_URL']}/_aws/execute-api/{values['API_ID']}"
    text = "".join(f'{name}="{value}"\n' if " " in value else f"{name}={value}\n" for name, value in sorted(values.items()))
    new = STACK_ENV.with_suffix(".new")
    new.write_text(text)
    new.replace(STACK_ENV)


def shout(name: str) -> str:
    """EventsTable -> EVENTS_TABLE, customer-1-id -> CUSTOMER_1_ID"""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("-", "_").upper()


# ---------------------------------------------------------------- users and tokens


def create_users(pool: str) -> dict[str, str]:
    """Returns each user's `sub`, which is the customer id."""
    cognito, ids = client("cognito-idp"), {}
    for who, groups in USERS.items():
        try:
            cognito.admin_create_user(UserPoolId=pool, Username=who, MessageAction="SUPPRESS")
            cognito.admin_set_user_password(UserPoolId=pool, Username=who, Password=password(), Permanent=True)
        except cognito.exceptions.UsernameExistsException:
            pass
        for group in groups:
            cognito.admin_add_user_to_group(UserPoolId=pool, Username=who, GroupName=group)
        attributes = cognito.admin_get_user(UserPoolId=pool, Username=who)["UserAttributes"]
        ids[who] = next(attribute["Value"] for attribute in attributes if attribute["Name"] == "sub")
    return ids


def password() -> str:
    """The local users' password, made up on first use."""
    file = STATE / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"Aa1-{secrets.token_urlsafe(16)}")
    return file.read_text()


def token_of(who: str) -> str:
    signed_in = client("cognito-idp").initiate_auth(
        ClientId=stack_environment()["USER_POOL_CLIENT_ID"], AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": who, "PASSWORD": password()})
    return signed_in["AuthenticationResult"]["AccessToken"]


# ---------------------------------------------------------------- commands


def settle(_):
    outputs = stack_outputs()
    write_environment(outputs, create_users(outputs["UserPoolId"]))
    service("staff-1").seed()
    print(f"""
The order service runs at {stack_environment()["API_URL"]}, and its console for staff at {stack_environment()["CONSOLE_URL"]}

  make demo                    places an order and shows each of its events
  make logs                    what the functions say
  make token WHO=customer-1    a token for calls of your own (also customer-2, staff-1, staff-2, carrier-1)
  make down                    stops everything

  . {STACK_ENV.relative_to(ROOT)}
  curl -H "Authorization: Bearer $(make token WHO=staff-1)" "$API_URL/api/v1/products/{products()[0]["id"]}"
""")


def service(who: str) -> Service:
    return Service(stack_environment()["API_URL"], token_of(who))


def token(arguments):
    print(token_of(arguments.who))


def demo(_):
    environment, customer = stack_environment(), service("customer-1")
    order = customer.place(environment["CUSTOMER_1_ID"], [product["id"] for product in products()[:2]])
    print(f"Placed the order {order}. Its events:\n")
    deadline = time.monotonic() + 60
    follow_events(order, environment["EVENTS_TABLE"], deadline)
    path, view = f"/api/v1/orders/{order}", {}
    while view.get("status") not in ("confirmed", "rejected", "cancelled") and time.monotonic() < deadline:
        time.sleep(0.2)
        view = customer.call("GET", path)[1]
    print(f"\nGET {path}\n{json.dumps(view, indent=2, ensure_ascii=False)}")
    if view.get("status") != "confirmed":
        executions = " ".join(describe_execution(kind, environment[machine].replace(":stateMachine:", ":execution:") + f":{order}")
                              for kind, machine in (("Express", "FULFILMENT_EXPRESS_ARN"), ("Standard", "FULFILMENT_ARN")))
        sys.exit(f"error: the order was not confirmed within a minute. {executions} `make logs` may say more")


def follow_events(order: str, table: str, deadline: float):
    dynamodb, seen = client("dynamodb"), 0
    while time.monotonic() < deadline:
        commits = dynamodb.query(TableName=table, ConsistentRead=True, KeyConditionExpression="#stream = :stream AND #version > :seen",
                                 ExpressionAttributeNames={"#stream": "stream", "#version": "version"},
                                 ExpressionAttributeValues={":stream": {"S": f"order#{order}"}, ":seen": {"N": str(seen)}})["Items"]
        for commit in commits:
            for seen, event in enumerate(json.loads(commit["events"]["S"]), start=int(commit["version"]["N"])):
                print(f"  {commit['occurred_at']['S'][11:23]:<13} {seen:>2}  {event['type']:<18} {facts(event['data'])}", flush=True)
                if event["type"] in ("OrderConfirmed", "OrderRejected", "OrderCancelled"):
                    return
        time.sleep(0.1)


def facts(data: dict) -> str:
    """An event's plain values and amounts of money, in short."""
    found = []
    for name, value in data.items():
        if isinstance(value, dict) and value.keys() == {"amount", "currency"}:
            value = f"{value['amount']} {value['currency']}"
        if isinstance(value, (str, int)):
            found.append(f"{name}={value}")
    return "  ".join(found)[:120]


def reconcile(arguments):
    """Runs `reconcile` now, as its schedule does every few minutes, with this patience."""
    run_now("reconcile", {"patience_seconds": arguments.patience})


def compare_books(arguments):
    """Runs `compare-books` now, as its schedule does every hour, with this patience, and for this order only if one is named."""
    run_now("compare-books", {"patience_seconds": arguments.patience, "order_id": arguments.order or None})


def run_now(function: str, event: dict):
    answer = client("lambda").invoke(FunctionName=f"order-service-local-{function}", Qualifier="live", Payload=json.dumps(event).encode())
    text = answer["Payload"].read().decode()
    if "FunctionError" in answer:
        sys.exit(f"error: {text}. `make logs FUNCTION={function}` may say more")
    print(text)


def describe_execution(kind: str, arn: str) -> str:
    """AWS describes no Express execution; the emulator does."""
    try:
        execution = client("stepfunctions").describe_execution(executionArn=arn)
        return f"Its {kind} execution: {execution['status']} {execution.get('error', '')} {execution.get('cause', '')}".strip() + "."
    except ClientError:
        return f"It has no {kind} execution."


def logs(arguments):
    query = {"logGroupName": stack_environment()["FUNCTION_LOGS"], "filterPattern": quoted(arguments.containing)}
    service, since, shown = client("logs"), int(time.time() * 1000) - 10 * 60_000, set()
    while True:  # ends with the user, or with the stack
        try:
            events = service.filter_log_events(startTime=since, **query)["events"]
        except EndpointConnectionError:
            return
        for event in sorted(events, key=lambda event: event["timestamp"]):
            key = (event["timestamp"], event["logStreamName"], event["message"])
            if key not in shown and wanted(event["message"], arguments.function):
                print(event["message"], flush=True)
            shown.add(key)
        # The emulator gives no token for what does not fit into one answer; the last one's time serves as one.
        complete = len(events) < 10_000
        if arguments.once and complete:
            return
        since = max([since, *(event["timestamp"] for event in events)])
        shown = {key for key in shown if key[0] >= since}
        if complete:
            time.sleep(1)


def quoted(text: str) -> str:
    """A filter pattern for lines with this text; the empty pattern is for all lines."""
    return '"' + text.replace('"', "") + '"' if text else ""


def wanted(message: str, function: str) -> bool:
    """Leaves out Lambda's own lines, and those of other functions when one is asked for."""
    if re.match(r"(START|END|REPORT) RequestId: ", message):
        return False
    return not function or re.search(rf'"function_name": ?"[^"]*-{function}"', message) is not None


# ---------------------------------------------------------------- faults


def cloud_map_service(_):
    """The id of the reference provider's service, which is made if it is not there, as whoever runs a provider makes one."""
    cloud_map, namespace = client("servicediscovery"), stack_environment()["DISCOVERY_NAMESPACE"]
    services = [each["Id"] for each in cloud_map.list_services()["Services"] if each["Name"] == PROVIDER]
    if not services:
        namespace_id = next(each["Id"] for each in cloud_map.list_namespaces()["Namespaces"] if each["Name"] == namespace)
        services = [cloud_map.create_service(Name=PROVIDER, NamespaceId=namespace_id)["Service"]["Id"]]
    print(services[0])


def faults(arguments):
    """Runs a command while orders can ask the steps to fail (fault_proxy.py), and mends the steps whatever happens."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for_each_step(break_step)
        code = subprocess.run(arguments.command, cwd=ROOT, env=os.environ | stack_environment()).returncode
    finally:
        for_each_step(mend_step)
    sys.exit(code)


def for_each_step(change):
    """Changes the functions that the deployed state machine calls, flag-order among them, all at once."""
    machine = client("stepfunctions").describe_state_machine(stateMachineArn=stack_environment()["FULFILMENT_ARN"])
    states = json.loads(machine["definition"])["States"].values()
    functions = {state["Resource"].split(":")[6] for state in states if ":function:" in state.get("Resource", "")}
    service = client("lambda")
    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        list(pool.map(lambda function: change(service, function), functions))


def break_step(service, function: str):
    """The package says itself how to mend the function, so that a run that was killed leaves nothing that cannot be mended."""
    mend_step(service, function)
    deployed = service.get_function(FunctionName=function, Qualifier="live")
    package = {
        "bootstrap": (ROOT / "infra" / "local" / "fault_proxy.py").read_bytes(),
        "step": files_of(deployed)["bootstrap"],
        "timeout": str(deployed["Configuration"]["Timeout"]).encode(),
    }
    package["bootstrap"] = b"#!/usr/bin/env -S python3 -IS\n" + package["bootstrap"]
    update(service, function, package, timeout=6)  # short enough to be waited for, long enough for a busy machine


def mend_step(service, function: str):
    package = files_of(service.get_function(FunctionName=function, Qualifier="live"))
    if "step" in package:
        update(service, function, {"bootstrap": package["step"]}, int(package["timeout"]))


def files_of(deployed: dict) -> dict[str, bytes]:
    with urllib.request.urlopen(deployed["Code"]["Location"], timeout=30) as answer:
        package = zipfile.ZipFile(io.BytesIO(answer.read()))
    return {name: package.read(name) for name in package.namelist()}


def update(service, function: str, files: dict[str, bytes], timeout: int):
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, content)
    # A package that can be mended is never without the right timeout: neither before this nor in between.
    steps = [lambda: service.update_function_configuration(FunctionName=function, Timeout=timeout),
             lambda: service.update_function_code(FunctionName=function, ZipFile=package.getvalue())]
    for step in reversed(steps) if "step" in files else steps:
        step()
        await_update(service, function)
    go_over(service, function)


def start_anew(service, function: str):
    """Has calls go to processes that know nothing of what came before."""
    service.update_function_configuration(FunctionName=function, Description=f"started anew at {time.time()}")
    await_update(service, function)
    go_over(service, function)


def await_update(service, function: str):
    service.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})


def go_over(service, function: str):
    """Everybody calls the alias, and so what was changed from now on."""
    version = service.publish_version(FunctionName=function)["Version"]
    service.update_alias(FunctionName=function, Name="live", FunctionVersion=version)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    commands.add_parser("settle").set_defaults(run=settle)
    commands.add_parser("demo").set_defaults(run=demo)
    command = commands.add_parser("token")
    command.add_argument("who", choices=USERS)
    command.set_defaults(run=token)
    command = commands.add_parser("logs")
    command.add_argument("function", nargs="?", default="")
    command.add_argument("--once", action="store_true")
    command.add_argument("--containing", default="")
    command.set_defaults(run=logs)
    command = commands.add_parser("reconcile")
    command.add_argument("patience", type=int)
    command.set_defaults(run=reconcile)
    command = commands.add_parser("compare-books")
    command.add_argument("patience", type=int)
    command.add_argument("order", nargs="?", default="")
    command.set_defaults(run=compare_books)
    commands.add_parser("cloud-map-service").set_defaults(run=cloud_map_service)
    command = commands.add_parser("faults")
    command.add_argument("command", nargs=argparse.REMAINDER)
    command.set_defaults(run=faults)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):  # the reader has seen enough
        os._exit(130)

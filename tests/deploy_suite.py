"""Tries infra/deploy.py on the running local stack: who becomes staff and how they sign in, and the smoke test.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/deploy_suite.py
"""
from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
import unittest
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra"))

import deploy  # noqa: E402
from service import Service  # noqa: E402

STAGE = deploy.Stage("local")
PASSWORD = f"Aa1-{uuid.uuid4()}"


def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess:
    call = [sys.executable, ROOT / "infra" / "deploy.py", *arguments]
    return subprocess.run(call, input=typed, capture_output=True, text=True, timeout=300)


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


class Staff(unittest.TestCase):
    def setUp(self):
        self.email = f"{uuid.uuid4()}@example.com"
        self.addCleanup(self.remove)

    def remove(self):
        cognito = STAGE.client("cognito-idp")
        try:
            cognito.admin_delete_user(UserPoolId=STAGE.outputs()["UserPoolId"], Username=self.email)
        except cognito.exceptions.UserNotFoundException:
            pass

    def token(self, *typed: str) -> str:
        signed_in = run("token", "local", self.email, typed=lines(*typed))
        self.assertEqual(signed_in.returncode, 0, signed_in.stderr)
        return signed_in.stdout.strip()

    def mails(self) -> list[str]:
        with urllib.request.urlopen(f"{deploy.os.environ['AWS_ENDPOINT_URL']}/_ministack/ses/messages", timeout=30) as answer:
            boxes = json.loads(answer.read())["messages"].values()
        return [mail["BodyText"] for box in boxes for mail in box if mail["To"] == [self.email]]

    def test_who_is_invited_signs_in_with_the_password_of_the_mail_and_chooses_another(self):
        invited = run("staff", "local", self.email)
        self.assertEqual(invited.returncode, 0, invited.stderr)
        mail, = self.mails()
        first = mail.rsplit(" ", 1)[1].removesuffix(".")
        self.assertNotIn(first, invited.stdout + invited.stderr)
        again = run("staff", "local", self.email)  # the first mail was lost
        self.assertEqual((again.returncode, len(self.mails())), (0, 2), again.stderr)
        first = self.mails()[-1].rsplit(" ", 1)[1].removesuffix(".")
        access = self.token(first, PASSWORD)
        Service(STAGE.url(), access).expect([200], "GET", "/metrics")
        self.token(PASSWORD)

    def test_a_password_that_is_typed_is_asked_for_again_when_it_is_too_weak(self):
        weak = run("staff", "local", self.email, "--prompt", typed=lines("weak"))
        self.assertEqual(weak.returncode, 1)
        self.assertIn("Password", weak.stderr)
        strong = run("staff", "local", self.email, "--prompt", typed=lines(PASSWORD))
        self.assertEqual(strong.returncode, 0, strong.stderr)
        self.assertNotIn(PASSWORD, strong.stdout + strong.stderr)
        self.token(PASSWORD)

    def test_who_has_a_second_factor_needs_it(self):
        run("staff", "local", self.email, "--prompt", typed=lines(PASSWORD))
        with subprocess.Popen([sys.executable, ROOT / "infra" / "deploy.py", "second-factor", "local", self.email],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as giving:
            giving.stdin.write(lines(PASSWORD))
            giving.stdin.flush()
            secret = giving.stderr.readline().rsplit(" ", 1)[1].strip()
            giving.stdin.write(lines(deploy.totp(secret)))
            giving.stdin.close()
            self.assertEqual(giving.wait(60), 0, giving.stderr.read())
        self.assertEqual(run("token", "local", self.email, typed=lines(PASSWORD, "not the code")).returncode, 1)
        self.token(PASSWORD, deploy.totp(secret))

    def test_who_has_taken_the_name_before_does_not_become_staff(self):
        client = STAGE.outputs()["UserPoolClientId"]
        STAGE.client("cognito-idp").sign_up(ClientId=client, Username=self.email, Password=PASSWORD,
                                            UserAttributes=[{"Name": "email", "Value": self.email}])
        refused = run("staff", "local", self.email)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("who is not staff", refused.stderr)


class Deployment(unittest.TestCase):
    def test_it_says_where_the_service_is_and_what_to_do_next(self):
        outcome = run("deploy", "local")
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)
        self.assertIn(STAGE.url(), outcome.stdout)
        self.assertIn("make smoke STAGE=local", outcome.stdout)
        policy = STAGE.client("cloudformation").get_stack_policy(StackName=STAGE.settings["stack_name"])["StackPolicyBody"]
        self.assertEqual(json.loads(policy), deploy.STACK_POLICY)

    def test_it_says_when_the_read_model_is_another_versions(self):
        dynamodb, key = STAGE.client("dynamodb"), {"key": {"S": "generations"}}
        table = STAGE.outputs()["OrdersTable"]
        before = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
        first = key | {"live": {"N": "1"}, "last": {"N": "1"}, "changed_at": {"S": "2026-11-26T00:00:00Z"}}
        if before:
            self.addCleanup(dynamodb.put_item, TableName=table, Item=before)
        else:
            self.addCleanup(dynamodb.delete_item, TableName=table, Key=key)
        dynamodb.put_item(TableName=table, Item=(before or first) | {"format": {"N": "1"}})
        for command in (["deploy", "local"], ["smoke", "local"]):
            self.assertIn("make rebuild VIEW=orders STAGE=local", run(*command).stdout)

    def test_a_rebuild_is_asked_for_until_it_has_switched_and_no_longer(self):
        standing = {"format": 3, "builds_format": 4, "building": None}
        self.assertIn("run `make rebuild", deploy.what_to_rebuild(STAGE, standing))
        self.assertIn("is under way", deploy.what_to_rebuild(STAGE, standing | {"building": 2}))
        self.assertEqual(deploy.what_to_rebuild(STAGE, standing | {"format": 4}), "")

    def test_what_is_called_and_the_newest_versions_stay_and_older_ones_go(self):
        functions, name = STAGE.client("lambda"), f"{STAGE.settings['stack_name']}-list-products"
        called = functions.get_alias(FunctionName=name, Name="live")["FunctionVersion"]

        def versions() -> list[str]:
            return [version["Version"] for version in functions.list_versions_by_function(FunctionName=name)["Versions"]]

        for number in range(deploy.KEPT + 1):
            functions.update_function_configuration(FunctionName=name, Description=f"a test's, number {number}")
            functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
            functions.publish_version(FunctionName=name)
        newest = versions()[-deploy.KEPT:]
        deploy.forget_versions(STAGE)
        self.assertEqual(versions(), ["$LATEST", called, *newest])
        self.assertEqual(functions.get_alias(FunctionName=name, Name="live")["FunctionVersion"], called)

    def test_prod_gets_no_products_that_nobody_sells(self):
        self.assertIn("nobody sells", run("deploy", "prod", "--seed").stderr)


class Quiet(unittest.TestCase):
    """`LogLevel=ERROR`, as a deployment with it gives it to the function that counts orders."""

    def setUp(self):
        self.functions, self.name = STAGE.client("lambda"), f"{STAGE.settings['stack_name']}-project-orders"
        self.variables = self.functions.get_function_configuration(FunctionName=self.name, Qualifier="live")["Environment"]["Variables"]
        self.addCleanup(self.go_by, self.variables["LOG_LEVEL"])

    def go_by(self, level: str):
        self.functions.update_function_configuration(FunctionName=self.name, Environment={"Variables": self.variables | {"LOG_LEVEL": level}})
        self.functions.get_waiter("function_updated_v2").wait(FunctionName=self.name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300})
        version = self.functions.publish_version(FunctionName=self.name)["Version"]
        self.functions.update_alias(FunctionName=self.name, Name="live", FunctionVersion=version)

    def told(self, since: float) -> list[dict]:
        """What the function has written since then, lines and figures."""
        logs = subprocess.run([sys.executable, ROOT / "infra/local/stack.py", "logs", "--once"], capture_output=True, text=True, timeout=60)
        found = [json.loads(line) for line in logs.stdout.splitlines() if line.startswith("{")]
        return [line for line in found if line.get("_aws", {}).get("Timestamp", 0) >= since * 1000
                or line.get("function_name") == self.name and line["timestamp"] >= datetime.datetime.fromtimestamp(since, datetime.timezone.utc).isoformat()]

    def test_an_order_that_is_stuck_is_counted_and_nothing_else_is_said(self):
        self.go_by("ERROR")
        since = time.time()
        with deploy.temporary_user(STAGE, "supervisor") as (_, tokens), deploy.temporary_user(STAGE) as (customer, tokens_of_customer):
            staff, buyer = Service(STAGE.url(), tokens["AccessToken"]), Service(STAGE.url(), tokens_of_customer["AccessToken"])
            with deploy.temporary_product(STAGE, staff) as product:
                order = buyer.place(customer, [product], "pm_refund_fails")
                path = f"/api/v1/orders/{order}"
                deploy.follow(buyer, path, "confirmed")
                buyer.expect([202], "POST", f"{path}/cancel", {"reason": "to be stuck"})
                deploy.follow(buyer, path, "needs_attention")
                staff.expect([202], "POST", f"{path}/fulfilment/skip", {"step": "refund-payment", "reason": "it is a test"})
                deploy.follow(buyer, path, "cancelled")
        # A figure is written after the view is saved, and the stack may still be at work on orders of others.
        deadline = time.monotonic() + 60
        told = self.told(since)
        while not any("OrdersCancelled" in line for line in told) and time.monotonic() < deadline:
            time.sleep(1)
            told = self.told(since)
        stuck = [line for line in told if line.get("Step") == "refund-payment"]
        self.assertEqual([(line["OrdersFlagged"], line["Step"]) for line in stuck], [(1, "refund-payment")])
        for figure in ("OrdersPlaced", "OrdersConfirmed", "OrdersCancelled"):
            self.assertGreaterEqual(sum(line.get(figure, 0) for line in told), 1, figure)
        self.assertEqual([line for line in told if line.get("function_name") == self.name], [])


class Smoke(unittest.TestCase):
    def test_it_follows_an_order_to_its_end_and_leaves_no_user_and_no_product(self):
        outcome = run("smoke", "local")
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)
        print(outcome.stdout)
        users = STAGE.client("cognito-idp").list_users(UserPoolId=STAGE.outputs()["UserPoolId"], Filter='username ^= "temporary-"')
        self.assertEqual(users["Users"], [])
        items = STAGE.client("dynamodb").scan(TableName=STAGE.outputs()["InventoryTable"], FilterExpression="begins_with(id, :smoke)",
                                              ExpressionAttributeValues={":smoke": {"S": "product#smoke-"}})
        self.assertEqual(items["Items"], [])


if __name__ == "__main__":
    unittest.main()

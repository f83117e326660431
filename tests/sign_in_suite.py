"""Tries the ways to sign in that the local stack itself does not have, each by a stack of its own beside the one that runs: an issuer of
one's own, which is started here, and staff who need a second factor. Each takes a minute or two to deploy, so it is run by hand.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/sign_in_suite.py
"""
from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "infra"))

import deploy  # noqa: E402
import stack  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: E402
from service import Service  # noqa: E402

# ---------------------------------------------------------------- a stack of its own


@contextlib.contextmanager
def deployed(name: str, **parameters: str):
    """The service under another name, with these parameters and no others than it must have; removed again."""
    stage = deploy.Stage("local")
    stage.settings = stage.settings | {"stack_name": f"order-service-{name}"}
    parameters = {"Stage": "local", "Architecture": stage.architecture, "LogRetentionDays": "1"} | parameters
    call = [deploy.SAM, "deploy", "--config-file", ROOT / "samconfig.toml", "--config-env", "local", "--template-file", stack.PACKED / "template.yaml",
            "--stack-name", stage.settings["stack_name"], "--parameter-overrides", *(f'{key}="{value}"' for key, value in parameters.items())]
    cloudformation = stage.client("cloudformation")
    try:
        done = subprocess.run(call, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=20 * stack.MINUTE)
        if done.returncode:
            raise RuntimeError(f"{stage.settings['stack_name']} cannot be deployed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        yield stage
    finally:
        cloudformation.delete_stack(StackName=stage.settings["stack_name"])
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=stage.settings["stack_name"], WaiterConfig={"Delay": 1, "MaxAttempts": 300})


def for_a_class(tests: type[unittest.TestCase], context) -> deploy.Stage:
    stage = context.__enter__()
    tests.addClassCleanup(context.__exit__, None, None, None)
    return stage


# ---------------------------------------------------------------- an issuer


AUDIENCE, CLIENT, KID = "orders", "console-of-the-test", "key-1"
USERS = {"Ben": {"sub": "ben", "groups": ["staff"]}, "Anna": {"sub": "anna", "groups": []}}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(key: rsa.RSAPrivateKey, claims: dict) -> str:
    told = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "at+jwt", "kid": KID}, claims))
    return f"{told}.{base64url(key.sign(told.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Issuer(ThreadingHTTPServer):
    """As small as OpenID Connect lets it be: one public client, the code flow with PKCE, and a page that takes anybody's word."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = rsa.generate_private_key(65537, 2048)
        self.redirect_uri = None  # the console's, once there is one
        self.codes: dict[str, dict] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def access_token(self, user: dict, key: rsa.RSAPrivateKey | None = None, **other) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 600, "client_id": CLIENT, "scope": "openid orders"} | user
        return signed(key or self.key, claims | other)

    def public_key(self) -> dict:
        numbers = self.key.public_key().public_numbers()
        number = lambda value: base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))  # noqa: E731
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, "n": number(numbers.n), "e": number(numbers.e)}


class Page(BaseHTTPRequestHandler):
    server: Issuer

    def log_message(self, *_):
        """Nobody reads it."""

    def answer(self, status: int, body: str = "", kind: str = "application/json", **headers: str):
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body.encode())), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/.well-known/openid-configuration":
            places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys", "end_session_endpoint": "logout"}
            self.answer(200, json.dumps({"issuer": self.server.url} | {name: f"{self.server.url}/{path}" for name, path in places.items()}))
        elif url.path == "/keys":
            self.answer(200, json.dumps({"keys": [self.server.public_key()]}))
        elif url.path == "/authorize" and self.is_the_consoles(asked):
            kept = "".join(f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">' for name, value in asked.items())
            buttons = "".join(f'<button name="user" value="{user}">{user}</button>' for user in USERS)
            self.answer(200, f'<!doctype html><title>Who are you?</title><form action="/approve">{kept}{buttons}</form>', "text/html")
        elif url.path == "/approve" and self.is_the_consoles(asked) and asked.get("user") in USERS:
            code = secrets.token_urlsafe()
            self.server.codes[code] = asked
            self.answer(302, location=f"{asked['redirect_uri']}?{urllib.parse.urlencode({'code': code, 'state': asked['state']})}")
        elif url.path == "/logout" and asked.get("logout_uri") == self.server.redirect_uri:
            self.answer(302, location=asked["logout_uri"])
        else:
            self.answer(400, json.dumps({"error": "invalid_request"}))

    def is_the_consoles(self, asked: dict) -> bool:
        wanted = {"client_id": CLIENT, "redirect_uri": self.server.redirect_uri, "response_type": "code", "code_challenge_method": "S256"}
        return wanted.items() <= asked.items() and {"state", "code_challenge"} <= asked.keys()

    def do_POST(self):
        asked = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        begun = self.server.codes.pop(asked.get("code"), {})
        challenge = base64url(hashlib.sha256(asked.get("code_verifier", "").encode()).digest())
        proven = {"grant_type": "authorization_code", "client_id": CLIENT, "redirect_uri": begun.get("redirect_uri")}.items() <= asked.items()
        if self.path == "/token" and proven and challenge == begun.get("code_challenge"):
            given = {"access_token": self.server.access_token(USERS[begun["user"]]), "token_type": "Bearer", "expires_in": 600}
            self.answer(200, json.dumps(given), access_control_allow_origin="*")
        else:
            self.answer(400, json.dumps({"error": "invalid_grant"}), access_control_allow_origin="*")


class AnotherIssuer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.issuer = Issuer()
        cls.addClassCleanup(cls.issuer.shutdown)
        cls.stage = for_a_class(cls, deployed(
            "issuer", Issuer=cls.issuer.url, Audience=AUDIENCE, AcceptedScopes="orders", ConsoleClientId=CLIENT, ConsoleScope="openid orders",
            ConsoleAuthorizeUrl=f"{cls.issuer.url}/authorize", ConsoleTokenUrl=f"{cls.issuer.url}/token", ConsoleLogoutUrl=f"{cls.issuer.url}/logout"))
        cls.issuer.redirect_uri = cls.stage.outputs()["ConsoleUrl"]

    def service(self, token: str) -> Service:
        return Service(self.stage.url(), token)

    def test_there_is_no_pool(self):
        self.assertNotIn("UserPoolId", self.stage.outputs())

    def test_its_tokens_say_who_somebody_is_and_what_they_may(self):
        staff, anna = (self.service(self.issuer.access_token(USERS[name])) for name in ("Ben", "Anna"))
        product = f"test-{uuid.uuid4()}"
        priced = {"name": "Tea", "price": {"amount": 100, "currency": "CNY"}, "stock": 1}
        anna.expect([403], "PUT", f"/api/v1/products/{product}", priced)
        staff.expect([201], "PUT", f"/api/v1/products/{product}", priced)
        order = anna.place("anna", [product])
        deploy.follow(anna, f"/api/v1/orders/{order}", "confirmed")
        self.service(self.issuer.access_token({"sub": "clara"})).expect([404], "GET", f"/api/v1/orders/{order}")
        in_cognitos_words = {"sub": "dora", "cognito:groups": ["supervisor"]}
        self.service(self.issuer.access_token(in_cognitos_words)).expect([200], "GET", f"/api/v1/orders/{order}")

    def test_all_other_tokens_are_refused(self):
        ben, now = USERS["Ben"], int(time.time())
        for what, token, status in [
            ("signed by somebody else", self.issuer.access_token(ben, rsa.generate_private_key(65537, 2048)), 401),
            ("made for another service", self.issuer.access_token(ben, aud="invoices"), 401),
            ("an ID token, which is for the client", self.issuer.access_token(ben, aud=CLIENT), 401),
            ("of another issuer", self.issuer.access_token(ben, iss="https://id.example"), 401),
            ("expired", self.issuer.access_token(ben, exp=now - 1), 401),
            ("without the scope", self.issuer.access_token(ben, scope="openid"), 403),
            ("of the pool of the stack beside", stack.token_of("staff-1"), 401),
            ("none", "", 401),
        ]:
            with self.subTest(what):
                self.service(token).expect([status], "GET", "/metrics")
        self.service(self.issuer.access_token(ben)).expect([200], "GET", "/metrics")

    def test_the_console_signs_in_there(self):
        console = {"CONSOLE_URL": self.issuer.redirect_uri, "ISSUER_URL": self.issuer.url, "CHROMIUM": stack.chromium()}
        npm = stack.folder_of_node() / "npm"
        environment = os.environ | console | {"PATH": f"{npm.parent}:{os.environ['PATH']}"}
        for command in (["ci", "--no-audit", "--no-fund"], ["run", "test:issuer"]):
            done = subprocess.run([npm, *command], cwd=ROOT / "tests" / "console", env=environment, capture_output=True, text=True, timeout=600)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


# ---------------------------------------------------------------- a second factor


class StaffSecondFactor(unittest.TestCase):
    """Of the pool's own function; `withhold-staff` has the rest in its tests."""

    @classmethod
    def setUpClass(cls):
        cls.stage = for_a_class(cls, deployed("withheld", StaffSecondFactor="true"))

    def test_who_has_none_is_no_staff_and_nobody_else_notices(self):
        self.assertTrue(deploy.staff_is_withheld(self.stage))
        # Whoever is made up here is refused first, then has a second factor (infra/deploy.py).
        with deploy.temporary_user(self.stage, "staff") as (_, staff), deploy.temporary_user(self.stage) as (customer, tokens):
            Service(self.stage.url(), staff["AccessToken"]).expect([200], "GET", "/metrics")
            Service(self.stage.url(), tokens["AccessToken"]).expect([200], "GET", f"/api/v1/orders/customer/{customer}")

    def tokens(self, *groups: str) -> dict[str, str]:
        """Of somebody new without a second factor."""
        cognito, pool = self.stage.client("cognito-idp"), self.stage.outputs()["UserPoolId"]
        name, password = f"temporary-{uuid.uuid4()}", f"Aa1-{secrets.token_urlsafe(24)}"
        cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
        cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=password, Permanent=True)
        for group in groups:
            cognito.admin_add_user_to_group(UserPoolId=pool, Username=name, GroupName=group)
        return deploy.sign_in(self.stage, name, password, deploy.ask_machine)

    def test_while_the_pool_cannot_be_asked_staff_get_no_tokens_and_customers_do(self):
        iam, function = self.stage.client("iam"), f"{self.stage.settings['stack_name']}-withhold-staff"
        role = self.stage.client("lambda").get_function_configuration(FunctionName=function)["Role"].split("/")[-1]
        policy = {"RoleName": role, "PolicyName": "ask-the-pool"}
        document = json.dumps(iam.get_role_policy(**policy)["PolicyDocument"])
        iam.delete_role_policy(**policy)
        self.addCleanup(lambda: iam.put_role_policy(**policy, PolicyDocument=document))
        with self.assertRaises(deploy.ClientError):
            self.tokens("staff")
        self.assertIn("AccessToken", self.tokens("carrier"))

    def test_groups_that_are_not_of_staff_stay(self):
        tokens = self.tokens("carrier", "supervisor")
        for kind in ("AccessToken", "IdToken"):
            claims = tokens[kind].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            self.assertEqual(claims["cognito:groups"], ["carrier"], kind)


if __name__ == "__main__":
    unittest.main()

"""Calls the order service's API, for scripts. Needs only Python's standard library."""
from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = {"street": "1 Nanjing Road", "city": "Shanghai", "state": "Shanghai", "country": "CN", "postal_code": "200001"}


def products() -> list[dict]:
    return json.loads((ROOT / "infra" / "seed.json").read_text())


def json_of(response) -> dict:
    text = response.read()
    return json.loads(text) if "json" in response.headers.get("Content-Type", "") else {}


class Service:
    """The service as whoever has this token sees it."""

    def __init__(self, url: str, token: str):
        self.url, self.token = url, token

    def call(self, method: str, path: str, body: dict | None = None, key: str = "") -> tuple[int, dict]:
        """The answer's status and body; a body that is not JSON is left out. Without a key, it is a request of its own."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = key or str(uuid.uuid4())
        request = urllib.request.Request(self.url + path, method=method, headers=headers, data=json.dumps(body).encode() if body else None)
        try:
            with urllib.request.urlopen(request, timeout=35) as response:  # API Gateway gives up after 30 s
                return response.status, json_of(response)
        except urllib.error.HTTPError as error:
            return error.code, json_of(error)

    def expect(self, codes: list[int], method: str, path: str, body: dict | None = None, key: str = "") -> tuple[int, dict]:
        code, answer = self.call(method, path, body, key)
        if code not in codes:
            sys.exit(f"error: {method} {path} answered {code}: {json.dumps(answer)}. The functions' logs may say why")
        return code, answer

    def put_product(self, product: dict):
        self.expect([200, 201], "PUT", f"/api/v1/products/{product['id']}", {key: value for key, value in product.items() if key != "id"})

    def seed(self):
        """Puts the products of seed.json that are not there."""
        for product in products():
            if self.expect([200, 404], "GET", f"/api/v1/products/{product['id']}")[0] == 404:
                self.put_product(product)

    def place(self, customer: str, products: list[str], payment_method: str = "pm_card_visa", key: str = "") -> str:
        """Orders one of each, and returns the order's id."""
        items = [{"product_id": product, "quantity": 1} for product in products]
        order = {"customer_id": customer, "items": items, "shipping_address": ADDRESS, "payment_method": payment_method}
        return self.expect([201], "POST", "/api/v1/orders", order, key)[1]["order_id"]

// Against a service that runs: API_URL, and the access tokens CUSTOMER_TOKEN and STAFF_TOKEN.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, it } from "node:test";

import { type PlaceOrder, OrderClient, ProblemError } from "@order-service/client";

const baseUrl = process.env["API_URL"] ?? "";

function signedIn(token: string): OrderClient {
  return new OrderClient({ baseUrl, token: () => process.env[token] ?? assert.fail(`${token} is not set`) });
}

function customerId(): string {
  const [, claims = ""] = (process.env["CUSTOMER_TOKEN"] ?? "").split(".");
  return JSON.parse(Buffer.from(claims, "base64url").toString()).sub;
}

/** What follows the events may be a moment behind. */
async function eventually<T>(rows: () => AsyncIterable<T>, wanted: (row: T) => boolean): Promise<T> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 250))) {
    for await (const row of rows()) if (wanted(row)) return row;
  }
  assert.fail("it is not in the list");
}

async function refusal(doing: Promise<unknown>): Promise<ProblemError> {
  const error = await doing.then(() => assert.fail("it was not refused"), (error: unknown) => error);
  assert.ok(error instanceof ProblemError, String(error));
  return error;
}

describe("on a service that runs", { skip: !baseUrl && "API_URL is not set", timeout: 300_000 }, () => {
  it("an order is placed once, confirmed, cancelled, and found everywhere", async () => {
    const [customer, staff] = [signedIn("CUSTOMER_TOKEN"), signedIn("STAFF_TOKEN")];
    const wanted: PlaceOrder = {
      customer_id: customerId(),
      items: [{ product_id: "tea-longjing", quantity: 1 }],
      shipping_address: { street: "1 Nanjing Road", city: "Shanghai", state: "Shanghai", country: "CN", postal_code: "200001" },
    };
    const idempotencyKey = randomUUID();
    const { order_id: id, version } = await customer.placeOrder(wanted, { idempotencyKey });
    assert.equal((await customer.placeOrder(wanted, { idempotencyKey })).order_id, id);
    assert.equal((await customer.waitForVersion(id, version)).id, id);

    const confirmed = await customer.waitForVersion(id, 5);
    assert.equal(confirmed.status, "confirmed");
    assert.equal(await customer.refreshOrder(confirmed), confirmed);

    const cancelled = await customer.cancelOrder(id, { reason: "changed my mind" });
    assert.equal(cancelled.status, "cancelling");
    assert.equal((await customer.waitForVersion(id, 10)).status, "cancelled");
    assert.equal((await customer.refreshOrder(confirmed)).status, "cancelled");

    const own = await eventually(() => customer.eachCustomerOrder("me", { page_size: 1, status: "cancelled" }), (row) => row.id === id);
    assert.equal(own.item_count, 1);
    const from = confirmed.created_at;
    const to = new Date(Date.now() + 60_000).toISOString();
    const listed = await eventually(() => staff.eachOrder({ status: "cancelled", from, page_size: 2 }), (row) => row.id === id);
    assert.equal(listed.customer.id, customerId());
    await eventually(() => staff.eachFoundOrder({ q: id }), (row) => row.id === id);
    await eventually(() => staff.eachEvent({ type: "OrderCancelled", from, to, page_size: 2 }), (event) => event.order_id === id);
    const types = [];
    for await (const event of staff.eachOrderEvent(id)) types.push(event.type);
    assert.deepEqual([types.length, types[0], types.at(-1)], [10, "OrderCreated", "OrderCancelled"]);

    const { status, entries, next } = await customer.getTimeline(id);
    assert.deepEqual([status, entries[0]?.who, next.waits_for], ["cancelled", "customer", "nobody"]);
    assert.ok(entries.some((entry) => entry.why === "changed my mind"));
    assert.ok((await staff.getLedger(id)).agrees);
  });

  it("dead letters are listed, and of those that are not there none is redriven or discarded", async () => {
    const staff = signedIn("STAFF_TOKEN");
    for (const settled of [false, true]) {
      for await (const letter of staff.eachDeadLetter({ consumer: "project-orders", settled })) assert.equal(letter.settlement !== null, settled);
    }
    const nobodys = { consumer: "project-orders", error_type: "NobodyHasThis", reason: "to see it", dry_run: true };
    const { matching, redriven, more } = await staff.redriveDeadLetters(nobodys);
    assert.deepEqual([matching, redriven, more], [0, 0, false]);
    assert.match((await staff.discardDeadLetters(nobodys)).consequence, /reads/);
  });

  it("what is refused says why", async () => {
    const customer = signedIn("CUSTOMER_TOKEN");
    assert.ok((await refusal(customer.listDeadLetters({ consumer: "project-orders" }))).is("forbidden"));
    assert.ok((await refusal(customer.listOrders())).is("forbidden"));
    assert.ok((await refusal(customer.getTimeline("7e108758-d8c7-5ab4-90d5-4d493c88ba33"))).is("not-found"));
    const wrong = await refusal(customer.placeOrder({ customer_id: customerId(), items: [], shipping_address: { street: "1", country: "HK" } }));
    assert.ok(wrong.is("invalid-request") && wrong.errors.has("/items"), wrong.message);
  });

  it("it is well", async () => {
    assert.notEqual((await new OrderClient({ baseUrl }).getHealth()).status, "down");
    assert.match(await signedIn("STAFF_TOKEN").getMetrics(), /^order_service_orders\{/m);
  });
});

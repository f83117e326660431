import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { NoAnswerError, type Order, OrderClient, type PlaceOrder, ProblemError, type operations } from "@order-service/client";

import { type Received, answer, hangUp, problem, serving, silence, stall } from "./server.js";

// A route that has come into the contract and not into the client is named here by the compiler.
type Missing = Exclude<keyof operations, keyof OrderClient | `on${Capitalize<string>}`>;
const missing: [Missing] extends [never] ? [] : Missing = [];

const ID = "7e108758-d8c7-5ab4-90d5-4d493c88ba33";
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const ORDER: PlaceOrder = {
  customer_id: "anna",
  items: [{ product_id: "tea-longjing", quantity: 1 }],
  shipping_address: { street: "1 Nanjing Road", city: "Shanghai", state: "Shanghai", country: "CN", postal_code: "200001" },
};
const PLACED = { order_id: ID, status: "created", version: 1, message: "order created" };
const placed = answer(201, PLACED);
const order = (version: number) => ({ id: ID, status: "confirmed", version }) as Order;

function header(received: Received[], name: string): unknown[] {
  return received.map((request) => request.headers[name]);
}

async function refusal(doing: Promise<unknown>): Promise<ProblemError> {
  const error = await doing.then(() => assert.fail("it was not refused"), (error: unknown) => error);
  assert.ok(error instanceof ProblemError, String(error));
  return error;
}

async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const found = [];
  for await (const row of rows) found.push(row);
  return found;
}

describe("a request", () => {
  it("goes to its route below the base URL, with the token and a name of its own", async (test) => {
    assert.deepEqual(missing, []);
    const { client, received } = await serving(test, [answer(200, order(1))]);
    assert.deepEqual(await client.getOrder(ID), order(1));
    await client.getOrder(ID, { correlationId: "checkout-42" });
    const [first, second] = received;
    assert.equal(first?.url, `/stage/api/v1/orders/${ID}`);
    assert.equal(first?.headers.authorization, "Bearer a-token");
    assert.match(String(first?.headers["x-correlation-id"]), UUID);
    assert.equal(first?.headers["content-type"], undefined);
    assert.equal(second?.headers["x-correlation-id"], "checkout-42");
  });

  it("has a fresh key for each POST, or the caller's, and none otherwise", async (test) => {
    const { client, received } = await serving(test, [placed]);
    await client.placeOrder(ORDER);
    await client.placeOrder(ORDER);
    await client.placeOrder(ORDER, { idempotencyKey: "mine" });
    await client.recordDelivery(ID);
    await client.api.POST("/api/v1/orders", { body: ORDER });
    await client.putProduct("tea", { name: "Tea", price: { amount: 1, currency: "CNY" } });
    await client.getOrder(ID);
    const keys = header(received, "idempotency-key");
    for (const at of [0, 1, 3, 4]) assert.match(String(keys[at]), UUID);
    assert.equal(new Set(keys.slice(0, 5)).size, 5);
    assert.deepEqual(keys.slice(5), [undefined, undefined]);
    assert.equal(keys[2], "mine");
    assert.deepEqual(JSON.parse(received[0]?.body ?? ""), ORDER);
    assert.equal(received[3]?.body, "");
  });

  it("has a key also where there is no crypto", async (test) => {
    const { client, received } = await serving(test, [placed]);
    const crypto = Object.getOwnPropertyDescriptor(globalThis, "crypto");
    Object.defineProperty(globalThis, "crypto", { value: undefined, configurable: true });
    test.after(() => crypto && Object.defineProperty(globalThis, "crypto", crypto));
    await client.placeOrder(ORDER);
    assert.match(String(received[0]?.headers["idempotency-key"]), UUID);
  });

  it("names a customer as the service's links do", async (test) => {
    const { client, received } = await serving(test, [answer(200, {})]);
    for (const id of ["me", "a-B_c.1", "auth0|7", "events", "~", "a?b>c"]) await client.getCustomer(id);
    const named = received.map((request) => request.url.split("/").at(-1));
    assert.deepEqual(named, ["me", "a-B_c.1", "~YXV0aDB8Nw", "~ZXZlbnRz", "~fg", "~YT9iPmM"]);
  });
});

describe("repeating", () => {
  it("sends the same again, under the same key and name, with a token of now", async (test) => {
    let tokens = 0;
    const { client, received } = await serving(test, [problem(503, "unavailable"), hangUp, placed], { token: () => `token-${(tokens += 1)}` });
    assert.deepEqual(await client.placeOrder(ORDER), PLACED);
    assert.equal(received.length, 3);
    for (const name of ["idempotency-key", "x-correlation-id"]) assert.equal(new Set(header(received, name)).size, 1, name);
    assert.equal(new Set(received.map((request) => request.body)).size, 1);
    assert.deepEqual(header(received, "authorization"), ["Bearer token-1", "Bearer token-2", "Bearer token-3"]);
  });

  for (const status of [429, 502, 503, 504]) {
    it(`is for ${status}, also of the gateway`, async (test) => {
      const { client, received } = await serving(test, [answer(status, { message: "Not now" }), answer(200, order(1))]);
      await client.getOrder(ID);
      assert.equal(received.length, 2);
    });
  }

  for (const status of [400, 401, 403, 404, 409, 413, 415, 422, 500]) {
    it(`is not for ${status}`, async (test) => {
      const { client, received } = await serving(test, [problem(status, "some")]);
      assert.equal((await refusal(client.placeOrder(ORDER))).status, status);
      assert.equal(received.length, 1);
    });
  }

  it("waits for as long as Retry-After says, in seconds or as a date", async (test) => {
    const date = () => new Date(Math.ceil(Date.now() / 1000) * 1000 + 1000).toUTCString();
    const limited = (after: string) => problem(429, "rate-limited", { limit: "customer_reads" }, { "retry-after": after });
    const { client, received } = await serving(test, [
      limited("1"),
      (response, request, number) => limited(date())(response, request, number),
      answer(200, order(1)),
    ]);
    await client.getOrder(ID);
    const [first = 0, second = 0, third = 0] = received.map((request) => request.at);
    assert.ok(second - first >= 990, `${second - first} ms`);
    assert.ok(third - second >= 900, `${third - second} ms`);
  });

  it("ends after so many attempts, with what was answered last", async (test) => {
    const { client, received } = await serving(test, [problem(503, "unavailable")]);
    const error = await refusal(client.placeOrder(ORDER));
    assert.deepEqual([error.status, received.length], [503, 4]);
    assert.equal(error.idempotencyKey, received[0]?.headers["idempotency-key"]);
  });

  it("ends at once where the service asks for more time than there is", async (test) => {
    const { client, received } = await serving(test, [problem(429, "rate-limited", {}, { "retry-after": "61" })]);
    assert.equal((await refusal(client.getOrder(ID))).retryAfter, 61);
    assert.equal(received.length, 1);
  });

  it("pauses for longer each time", async (test) => {
    const { client, received } = await serving(test, [problem(503, "unavailable")], { retries: { pauseMs: 80 } });
    await refusal(client.getOrder(ID));
    const pauses = received.slice(1).map((request, at) => request.at - received[at]!.at);
    for (const [at, least] of [40, 80, 160].entries()) assert.ok(pauses[at]! >= least - 5, `${pauses}`);
  });

  it("gives up when nobody is there, and says under which key it was tried", async (test) => {
    const { client, received } = await serving(test, [hangUp]);
    const error = await client.placeOrder(ORDER).catch((error: unknown) => error);
    assert.ok(error instanceof NoAnswerError);
    assert.deepEqual([error.attempts, error.timedOut, received.length], [4, false, 4]);
    assert.equal(error.idempotencyKey, received[0]?.headers["idempotency-key"]);
    assert.equal(error.correlationId, received[0]?.headers["x-correlation-id"]);
    assert.ok(error.cause instanceof Error);
  });

  for (const [name, slow] of [["says nothing", silence], ["stops halfway", stall]] as const) {
    it(`is for an answer that ${name} in time`, async (test) => {
      const { client, received } = await serving(test, [slow, placed], { timeoutMs: 500 });
      assert.deepEqual(await client.placeOrder(ORDER), PLACED);
      assert.equal(new Set(header(received, "idempotency-key")).size, 1);
    });
  }

  it("takes no longer in all than it may", async (test) => {
    const begin = Date.now();
    const { client } = await serving(test, [silence], { timeoutMs: 10_000, retries: { totalMs: 200 } });
    const error = await client.getOrder(ID).catch((error: unknown) => error);
    assert.ok(error instanceof NoAnswerError && error.timedOut && error.attempts === 1);
    assert.ok(Date.now() - begin < 2_000);
  });

  it("stops when the caller calls it off, in an attempt, in a pause, or before the first", async (test) => {
    for (const handler of [silence, problem(503, "unavailable", {}, { "retry-after": "30" })]) {
      const abort = new AbortController();
      const { client, received } = await serving(test, [
        (...request) => {
          handler(...request);
          setTimeout(() => abort.abort(new Error("enough")), 100);
        },
      ]);
      const begin = Date.now();
      await assert.rejects(client.getOrder(ID, { signal: abort.signal }), /enough/);
      await assert.rejects(client.getOrder(ID, { signal: abort.signal }), /enough/);
      assert.equal(received.length, 1);
      assert.ok(Date.now() - begin < 5_000);
    }
  });

  it("does not hide that there is no token", async (test) => {
    const token = () => Promise.reject(new Error("signed out"));
    const { client, received } = await serving(test, [placed], { token });
    await assert.rejects(client.placeOrder(ORDER), /signed out/);
    assert.equal(received.length, 0);
  });
});

describe("a problem", () => {
  it("names what is wrong with each field", async (test) => {
    const errors = [
      { pointer: "/items/0/quantity", detail: "must be from 1 to 9999" },
      { pointer: "/discount", detail: "is not a known field" },
      { pointer: "/discount", detail: "must be text" },
    ];
    const { client } = await serving(test, [problem(400, "invalid-request", { title: "The request is invalid", errors })]);
    const error = await refusal(client.placeOrder(ORDER));
    assert.deepEqual(error.errors.get("/discount"), ["is not a known field", "must be text"]);
    assert.deepEqual([...error.errors.keys()], ["/items/0/quantity", "/discount"]);
    assert.match(error.message, /^400 The request is invalid: not so; \/items\/0\/quantity must be from 1 to 9999; /);
    assert.deepEqual([error.type, error.status, error.detail, error.correlationId], ["urn:order-service:problem:invalid-request", 400, "not so", "there"]);
  });

  it("has the members of its type", async (test) => {
    const items = [{ product_id: "tea-longjing", requested_quantity: 3, available_quantity: 1 }];
    const { client } = await serving(test, [problem(409, "out-of-stock", { items })]);
    const error = await refusal(client.placeOrder(ORDER));
    assert.ok(!error.is("price-changed"));
    assert.ok(error.is("out-of-stock"));
    assert.equal(error.problem.items[0]?.available_quantity, 1);
  });

  it("is made of what others say, too", async (test) => {
    const { client } = await serving(test, [
      answer(401, { message: "Unauthorized" }, { "content-type": "application/json" }),
      answer(403, "<h1>No</h1>", { "content-type": "text/html" }),
      answer(404, "", { "x-correlation-id": "seen" }),
    ]);
    const gateway = await refusal(client.getOrder(ID, { correlationId: "mine" }));
    assert.deepEqual([gateway.type, gateway.title, gateway.correlationId], ["about:blank", "Unauthorized", "mine"]);
    const proxy = await refusal(client.getOrder(ID));
    assert.deepEqual([proxy.title, proxy.detail], ["HTTP 403", ""]);
    assert.equal((await refusal(client.getOrder(ID))).correlationId, "seen");
  });

  it("is no exception for who calls a route as it is", async (test) => {
    const { client } = await serving(test, [problem(404, "not-found")]);
    const { error, response } = await client.api.GET("/api/v1/orders/{order_id}", { params: { path: { order_id: ID } } });
    assert.deepEqual([response.status, (error as { title: string }).title], [404, "No"]);
  });
});

describe("an order", () => {
  const late = problem(503, "unavailable", { detail: "the order is at version 1; version 5 is not there yet" }, { "retry-after": "0" });

  it("is waited for until it has its version", async (test) => {
    const { client, received } = await serving(test, [late, late, late, late, late, late, answer(200, order(5))]);
    assert.equal((await client.waitForVersion(ID, 5)).version, 5);
    assert.deepEqual([received.length, received[6]?.url], [7, `/stage/api/v1/orders/${ID}?min_version=5`]);
  });

  it("is not waited for any longer than that", async (test) => {
    const { client, received } = await serving(test, [late]);
    const error = await refusal(client.waitForVersion(ID, 5, { timeoutMs: 1_000 }));
    assert.ok(error.is("unavailable"));
    assert.ok(received.length > 1);
    assert.match(error.detail, /version 5 is not there yet/);
  });

  it("is told as it stood when there is no time to ask again", async (test) => {
    const { client, received } = await serving(test, [late, () => undefined]);
    const error = await refusal(client.waitForVersion(ID, 5, { timeoutMs: 1_000 }));
    assert.deepEqual([received.length, error.status], [2, 503]);
    assert.match(error.detail, /version 5 is not there yet/);
  });

  it("is read again only when there is something new", async (test) => {
    const { client, received } = await serving(test, [
      answer(200, order(1), { etag: '"1-0-1"' }),
      (response) => response.writeHead(304, { etag: '"1-0-1"' }).end(),
      answer(200, order(2), { etag: '"2-0-1"' }),
    ]);
    const first = await client.getOrder(ID);
    assert.equal(await client.refreshOrder(first), first);
    const second = await client.refreshOrder(first);
    assert.equal(second.version, 2);
    await client.refreshOrder(second);
    await client.refreshOrder(order(1));
    assert.deepEqual(header(received, "if-none-match"), [undefined, '"1-0-1"', '"1-0-1"', '"2-0-1"', undefined]);
  });
});

describe("a list", () => {
  const WINDOW = { type: "OrderCreated", from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z" } as const;
  const lists: [string, string, string, (client: OrderClient) => AsyncGenerator<unknown>][] = [
    ["all orders", "orders", "/api/v1/orders?status=needs_attention", (client) => client.eachOrder({ status: "needs_attention" })],
    ["a customer's orders", "orders", "/api/v1/orders/customer/me?page_size=2", (client) => client.eachCustomerOrder("me", { page_size: 2 })],
    ["orders found", "orders", "/api/v1/orders/search?q=%E7%8E%8B", (client) => client.eachFoundOrder({ q: "王" })],
    ["events", "events", "/api/v1/events?type=OrderCreated&from=2026-01-01T00%3A00%3A00Z&to=2026-01-02T00%3A00%3A00Z", (client) => client.eachEvent(WINDOW)],
    ["dead letters", "dead_letters", "/api/v1/dead-letters?consumer=project-orders&settled=true", (client) => client.eachDeadLetter({ consumer: "project-orders", settled: true })],
    ["an order's events", "events", `/api/v1/orders/${ID}/events?at=7`, (client) => client.eachOrderEvent(ID, { at: 7 })],
  ];
  for (const [name, rows, url, each] of lists) {
    it(`of ${name} goes on for as long as there is a next page`, async (test) => {
      const { client, received } = await serving(test, [
        answer(200, { [rows]: [1, 2], next: "/api/v1/next?after=1%2Fa" }),
        answer(200, { [rows]: [], next: "/api/v1/next?after=2%2Fa" }),
        problem(503, "unavailable"),
        answer(200, { [rows]: [3], next: null }),
      ]);
      assert.deepEqual(await all(each(client)), [1, 2, 3]);
      const last = "/stage/api/v1/next?after=2%2Fa";
      assert.deepEqual(received.map((request) => request.url), [`/stage${url}`, "/stage/api/v1/next?after=1%2Fa", last, last]);
      assert.ok(received.every((request) => request.headers.authorization === "Bearer a-token"));
    });
  }

  it("is read no further than it is wanted", async (test) => {
    const { client, received } = await serving(test, [answer(200, { orders: [1, 2], next: "/api/v1/next" })]);
    for await (const row of client.eachOrder({}, { correlationId: "list-1" })) {
      if (Number(row) === 2) break;
    }
    assert.equal(received.length, 1);
  });

  it("says what has become of a later page", async (test) => {
    const { client, received } = await serving(test, [answer(200, { orders: [1], next: "/api/v1/next" }), problem(400, "invalid-request")]);
    const error = await refusal(all(client.eachOrder({}, { correlationId: "list-1" })));
    assert.equal(error.status, 400);
    assert.deepEqual(header(received, "x-correlation-id"), ["list-1", "list-1"]);
  });

  it("takes no token elsewhere", async (test) => {
    for (const next of ["@example.com/", "https://example.com/", ".example.com/"]) {
      const { client, received } = await serving(test, [answer(200, { orders: [], next })]);
      await assert.rejects(all(client.eachOrder()), /no link to a page/);
      assert.equal(received.length, 1);
    }
  });
});

describe("dead letters", () => {
  it("are redriven and discarded as it is said which", async (test) => {
    const redriven = { consumer: "project-orders", dry_run: false, matching: 2, redriven: 1, failed: [{ id: "order/7", error_type: "Unreadable", error: "no" }], more: true, next: "order/7" };
    const discarded = { consumer: "project-orders", dry_run: true, matching: 1, discarded: 0, failed: [], more: false, next: null, consequence: "reads stay as they are" };
    const { client, received } = await serving(test, [answer(200, redriven), answer(200, discarded)]);
    const told = await client.redriveDeadLetters({ consumer: "project-orders", error_type: "Unreadable", reason: "mended", pace: 5 });
    assert.deepEqual([told.next, told.failed[0]?.error_type], ["order/7", "Unreadable"]);
    const dry = await client.discardDeadLetters({ consumer: "project-orders", all: true, reason: "nobody wants it", dry_run: true, after: told.next });
    assert.equal(dry.consequence, "reads stay as they are");
    await client.discardDeadLetters({ consumer: "project-orders", id: "order/7", last_sequence: 7, reason: "nobody wants it" });
    assert.deepEqual(received.map(({ method, url, body }) => [method, url, JSON.parse(body)]), [
      ["POST", "/stage/api/v1/dead-letters/redrive", { consumer: "project-orders", error_type: "Unreadable", reason: "mended", pace: 5 }],
      ["POST", "/stage/api/v1/dead-letters/discard", { consumer: "project-orders", all: true, reason: "nobody wants it", dry_run: true, after: "order/7" }],
      ["POST", "/stage/api/v1/dead-letters/discard", { consumer: "project-orders", id: "order/7", last_sequence: 7, reason: "nobody wants it" }],
    ]);
    // @ts-expect-error Nobody means all by accident.
    const unsaid: Parameters<OrderClient["redriveDeadLetters"]>[0] = { consumer: "project-orders", reason: "mended" };
    assert.ok(!("all" in unsaid));
  });
});

describe("the service", () => {
  it("has answered when it says what is down", async (test) => {
    const down = { status: "down", components: [], providers: [], configuration: { status: "down", digest: null }, timestamp: "2026-01-01T00:00:00Z" };
    const { client, received } = await serving(test, [answer(503, down), answer(503, { message: "Service Unavailable" })]);
    assert.equal((await client.getHealth()).status, "down");
    assert.equal((await refusal(client.getHealth())).title, "Service Unavailable");
    assert.equal(received.length, 2);
  });

  it("tells its figures as they are", async (test) => {
    const { client } = await serving(test, [answer(200, "orders 1\n", { "content-type": "text/plain; version=0.0.4" })]);
    assert.equal(await client.getMetrics(), "orders 1\n");
  });
});

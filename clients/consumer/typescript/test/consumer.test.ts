import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { type Ledger, type Message, consume } from "../src/consumer.js";
import { type Order, type Points, points } from "../src/points.js";

/** Keeps what a table would, and fails as often as it is told to, before or after it has written. */
class Memory implements Ledger<Order, Points> {
  orders = new Map<string, { last: number; state: Order }>();
  points = 0;
  reads = 0;
  crashes: ("before" | "after")[] = [];

  async read(order: string) {
    this.reads += 1;
    return this.orders.get(order) ?? { last: 0 };
  }

  async commit(order: string, sequence: number, { state, write }: { state: Order; write?: Points }) {
    const crash = this.crashes.shift();
    if (crash === "before") throw new Error("crashed");
    assert.equal(sequence, (this.orders.get(order)?.last ?? 0) + 1);
    this.orders.set(order, { last: sequence, state });
    this.points += write?.points ?? 0;
    if (crash === "after") throw new Error("crashed");
  }
}

const RATES = { CNY: 100 };
const money = (amount: number, currency = "CNY") => ({ amount: { amount, currency } });

/** Three points less a fraction, one given back: 2.5 - 1.2 = 1.3, where each taken for itself would be 2 - 2 = 0. */
const STORY: [string, object][] = [
  ["OrderCreated", { customer_id: "anna" }], ["InventoryReserved", {}], ["PaymentCompleted", money(250)],
  ["OrderConfirmed", {}], ["RefundCompleted", money(120)],
];

function message(order: string, sequence: number, [type, data]: [string, object | null]): Message {
  const metadata = { event_id: `${order}/${sequence}`, aggregate_type: "order", aggregate_id: order, sequence };
  return { messageId: `${order}/${sequence}`, body: JSON.stringify({ "detail-type": type, detail: { metadata, data } }) };
}

const story = (order: string, events = STORY) => events.map((event, index) => message(order, index + 1, event));

/** Sends what failed again, as the queue does, and answers what has failed to the end. */
async function deliver(ledger: Memory, messages: Message[], rates: Record<string, number> = RATES, times = 3): Promise<string[]> {
  for (let time = 0; time < times && messages.length > 0; time += 1) {
    const failed = new Set((await consume(ledger, points(rates), messages)).batchItemFailures.map((each) => each.itemIdentifier));
    messages = messages.filter(({ messageId }) => failed.has(messageId));
  }
  return messages.map(({ messageId }) => messageId).sort();
}

describe("a consumer", () => {
  it("handles each event once, however often it comes", async () => {
    const ledger = new Memory();
    for (let time = 0; time < 3; time += 1) assert.deepEqual(await deliver(ledger, [...story("a"), ...story("a")]), []);
    assert.equal(ledger.points, 1);
  });

  it("handles them in order, in whichever they come, one by one or together", async () => {
    const together = new Memory();
    assert.deepEqual(await deliver(together, story("a").reverse(), RATES, 1), []);
    const [first, second, ...rest] = story("a");
    const apart = new Memory();
    assert.deepEqual(await deliver(apart, rest, RATES, 1), ["a/3", "a/4", "a/5"]);
    assert.deepEqual(await deliver(apart, [second!], RATES, 1), ["a/2"]);
    assert.deepEqual(await deliver(apart, [...rest, second!, first!], RATES, 1), []);
    assert.deepEqual([together.points, apart.points], [1, 1]);
  });

  it("waits for a predecessor that is being handled beside it", async () => {
    const ledger = new Memory();
    const [first, ...rest] = story("a");
    const [late, early] = await Promise.all([deliver(ledger, rest, RATES, 1), new Promise((later) => setTimeout(later, 20)).then(() => deliver(ledger, [first!], RATES, 1))]);
    assert.deepEqual([late, early, ledger.points], [[], [], 1]);
  });

  it("does nothing twice that was done before a crash, and nothing never", async () => {
    for (const crash of ["before", "after"] as const) {
      const ledger = new Memory();
      ledger.crashes = STORY.map(() => crash);
      assert.deepEqual(await deliver(ledger, story("a"), RATES, 6), []);
      assert.equal(ledger.points, 1, crash);
    }
  });

  it("parks the order that it cannot handle, and no other; mended, it takes up what was parked in any order", async () => {
    const ledger = new Memory();
    const poison = story("b", STORY.map(([type, data]) => [type, "amount" in data ? money(250, "EUR") : data]));
    const parked = await deliver(ledger, [...poison, ...story("a"), ...story("c")].reverse());
    assert.deepEqual(parked, ["b/3", "b/4", "b/5"]);
    assert.equal(ledger.points, 2);
    assert.equal(ledger.reads, 15 + 3 + 3, "nobody waits within a batch for what has failed there");
    const redriven = poison.filter(({ messageId }) => parked.includes(messageId)).reverse();
    assert.deepEqual(await deliver(ledger, redriven, { ...RATES, EUR: 10 }), []);
    assert.equal(ledger.points, 2 + 25 - 25);
    assert.equal(ledger.orders.get("b")?.last, 5);
  });

  it("hands back what is no order's event, or has no data, with the rest done", async () => {
    const ledger = new Memory();
    const strange = ["", "{}", "null", '{"detail":{"metadata":{"aggregate_type":"order","aggregate_id":"x"}}}'].map((body, index) => ({ messageId: `${index}`, body }));
    assert.deepEqual(await deliver(ledger, [...strange, ...story("a"), message("d", 1, ["OrderCreated", null])]), ["0", "1", "2", "3", "d/1"]);
    assert.equal(ledger.points, 1);
  });
});

// Handles each event of an order once, and in its order, whatever the bus does. Nothing here knows what for.

import { setTimeout as sleep } from "node:timers/promises";

import type { BusEventOf, EventType } from "@order-service/client";

export type BusEvent = { [Type in EventType]: BusEventOf<Type> }[EventType];

/** A message of the queue, as Lambda hands it over. */
export interface Message { messageId: string; body: string }

/** What an event comes to: what is kept of its order for the events that follow, and what is written besides. */
export interface Outcome<State, Write> { state: State; write?: Write }

/** A pure function, so that what is done can be written together with the fact that it was done. It throws at what it cannot handle. */
export type Effect<State, Write> = (state: State | undefined, event: BusEvent) => Outcome<State, Write>;

export interface Ledger<State, Write> {
  /** The number of the order's last event that was handled, 0 before its first; and what was kept then. */
  read(order: string): Promise<{ last: number; state?: State }>;
  /** All of it, or nothing; and only if the order's last event is still the one before this. */
  commit(order: string, sequence: number, outcome: Outcome<State, Write>): Promise<void>;
}

/** Milliseconds until an event is looked at again whose predecessor has not come: mostly that is being handled at the same time. */
const PAUSES = [0, 100, 400];

/** Answers which messages have to come again. */
export async function consume<State, Write>(ledger: Ledger<State, Write>, effect: Effect<State, Write>, messages: Message[]) {
  const failed: { message: Message; reason: string }[] = [];
  const stuck = new Set<string>();
  let left = messages.flatMap((message) => {
    const event = eventOf(message);
    if (!event) failed.push({ message, reason: "no event of an order" });
    return event ? [{ message, event, order: event.detail.metadata.aggregate_id }] : [];
  });
  left.sort((one, other) => one.event.detail.metadata.sequence - other.event.detail.metadata.sequence);
  for (const pause of PAUSES) {
    if (left.length === 0) break;
    await sleep(pause);
    const early: typeof left = [];
    for (const each of left) {
      try {
        if (!(await handle(ledger, effect, each.event))) early.push(each);
      } catch (error) {
        failed.push({ message: each.message, reason: `${each.event.detail.metadata.event_id}: ${error}` });
        stuck.add(each.order);
      }
    }
    for (const { message, order } of early.filter(({ order }) => stuck.has(order))) failed.push({ message, reason: `${order} is stuck` });
    left = early.filter(({ order }) => !stuck.has(order));
  }
  for (const { message, event } of left) failed.push({ message, reason: `${event.detail.metadata.event_id} came before its predecessor` });
  for (const { message, reason } of failed) console.warn(JSON.stringify({ message: message.messageId, reason }));
  return { batchItemFailures: failed.map(({ message }) => ({ itemIdentifier: message.messageId })) };
}

/** False if the event before this one has not been handled yet. */
async function handle<State, Write>(ledger: Ledger<State, Write>, effect: Effect<State, Write>, event: BusEvent): Promise<boolean> {
  const { aggregate_id: order, sequence } = event.detail.metadata;
  const { last, state } = await ledger.read(order);
  if (sequence <= last) return true; // it has come before
  if (sequence > last + 1) return false;
  await ledger.commit(order, sequence, effect(state, event));
  return true;
}

function eventOf({ body }: Message): BusEvent | undefined {
  try {
    const event = JSON.parse(body) as BusEvent;
    const { aggregate_type, aggregate_id, sequence } = event.detail.metadata;
    return aggregate_type === "order" && typeof aggregate_id === "string" && Number.isSafeInteger(sequence) ? event : undefined;
  } catch {
    return undefined;
  }
}

// The example's effect: customers get a point for so much that they have paid, and lose it with what they get back.

import type { Effect } from "./consumer.js";

/** An order, as far as its points go. */
export interface Order { customer: string; paid: number; points: number }

export interface Points { customer: string; points: number }

/** `rates` says for each currency how many of its minor units are a point. One that is missing there is refused, not guessed. */
export function points(rates: Record<string, number>): Effect<Order, Points> {
  return (order, event) => {
    const type = event["detail-type"];
    if (type === "OrderCreated") return { state: { customer: present(event.detail.data).customer_id, paid: 0, points: 0 } };
    if (!order) throw new Error("the order began without OrderCreated");
    if (type !== "PaymentCompleted" && type !== "RefundCompleted" && type !== "PaymentRefunded") return { state: order };
    const { amount, currency } = present(event.detail.data).amount;
    const rate = rates[currency];
    if (!rate) throw new Error(`no rate for ${currency}`);
    const paid = order.paid + (type === "PaymentCompleted" ? amount : -amount);
    const now = Math.floor(paid / rate);
    return { state: { ...order, paid, points: now }, write: { customer: order.customer, points: now - order.points } };
  };
}

function present<Data>(data: Data | null): Data {
  if (data === null) throw new Error("the bus had no room for the event's data");
  return data;
}

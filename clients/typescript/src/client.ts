import createClient, { type Client } from "openapi-fetch";

import { problemOf } from "./errors.js";
import type * as schema from "./schema.js";
import { type Retries, retryAfter, sentWith, transport } from "./transport.js";

type Query<Operation extends keyof schema.operations> = NonNullable<schema.operations[Operation]["parameters"]["query"]>;
type FoundOrder = schema.FoundOrders["orders"][number];
type ListedOrder = schema.ListedOrders["orders"][number];
type ListedEvent = schema.EventList["events"][number];

/** What the bus hands to a consumer for an event of this type. */
export type BusEventOf<Type extends schema.EventType> = schema.webhooks[Type]["post"]["requestBody"]["content"]["application/json"];

export interface ClientOptions {
  /** Where the service is: the output `ApiUrl` of its stack. */
  baseUrl: string;
  /** Gives an access token, and is asked for each attempt: keep one while it is valid. Without it, only `getHealth` is answered. */
  token?: () => string | Promise<string>;
  /** How long an attempt may take. 25 seconds, because some routes take 20 to say that they cannot. */
  timeoutMs?: number;
  /** How often, and for how long, a request is sent again: 4 attempts, a minute, pauses from 0.2 to 5 seconds. */
  retries?: Partial<Retries>;
  /** Does one attempt, instead of the global `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export interface ReadOptions {
  /** Calls it off. */
  signal?: AbortSignal;
  /** Names the request in the service's logs, and in all events that it causes. A new UUID unless you give one. */
  correlationId?: string;
}

export interface CommandOptions extends ReadOptions {
  /** Under which the command is done once, however often it is sent. A new UUID unless you give one, and the same for all attempts. */
  idempotencyKey?: string;
}

/**
 * The order service. Each operation of its contract is a method, which answers with the body, or throws a `ProblemError` when the service
 * has refused, and a `NoAnswerError` when it has not answered.
 */
export class OrderClient {
  /** Every route as the contract has it, for those who need headers too. It sends and repeats in the same way, and throws no problems. */
  readonly api: Client<schema.paths>;
  readonly #baseUrl: string;
  readonly #send: (request: Request) => Promise<Response>;
  readonly #sendWith: (retries: Partial<Retries>) => (request: Request) => Promise<Response>;
  readonly #etags = new WeakMap<schema.Order, string>();

  constructor({ baseUrl, token, timeoutMs = 25_000, retries = {}, fetch = (url, init) => globalThis.fetch(url, init) }: ClientOptions) {
    const usual = { attempts: 4, totalMs: 60_000, pauseMs: 200, pauseMaxMs: 5_000, ...retries };
    this.#baseUrl = baseUrl.replace(/\/+$/, "");
    this.#sendWith = (other) => transport({ token, fetch, timeoutMs, retries: { ...usual, ...other } });
    this.#send = this.#sendWith({});
    this.api = createClient<schema.paths>({ baseUrl: this.#baseUrl, fetch: this.#send });
  }

  // Orders.

  async placeOrder(order: schema.PlaceOrder, options?: CommandOptions): Promise<schema.OrderPlaced> {
    return taken(await this.api.POST("/api/v1/orders", { body: order, ...sent(options) }));
  }

  async getOrder(orderId: string, { minVersion, ...options }: ReadOptions & { minVersion?: number } = {}): Promise<schema.Order> {
    const params = { path: { order_id: orderId }, query: minVersion === undefined ? {} : { min_version: minVersion } };
    return this.#known(await this.api.GET("/api/v1/orders/{order_id}", { params, ...sent(options) }));
  }

  /** Waits until the order has this version, as a command has answered it. A problem `unavailable` says that it did not come in time. */
  async waitForVersion(orderId: string, version: number, { timeoutMs = 30_000, ...options }: ReadOptions & { timeoutMs?: number } = {}): Promise<schema.Order> {
    const params = { path: { order_id: orderId }, query: { min_version: version } };
    const fetch = this.#sendWith({ attempts: Infinity, totalMs: timeoutMs, pauseMaxMs: 500 });
    return this.#known(await this.api.GET("/api/v1/orders/{order_id}", { params, fetch, ...sent(options) }));
  }

  /** Reads an order again that this client has read: the same object when nothing is new, which costs no body. */
  async refreshOrder(order: schema.Order, options?: ReadOptions): Promise<schema.Order> {
    const etag = this.#etags.get(order);
    const params = { path: { order_id: order.id }, header: etag === undefined ? {} : { "If-None-Match": etag } };
    const answer = await this.api.GET("/api/v1/orders/{order_id}", { params, ...sent(options) });
    return answer.response.status === 304 ? order : this.#known(answer);
  }

  async cancelOrder(orderId: string, cancel: schema.CancelOrder, options?: CommandOptions): Promise<schema.CancelAccepted> {
    return taken(await this.api.POST("/api/v1/orders/{order_id}/cancel", { params: { path: { order_id: orderId } }, body: cancel, ...sent(options) }));
  }

  /** A page of a customer's orders; `me` is oneself. */
  async listCustomerOrders(customerId: string, query: Query<"listCustomerOrders"> = {}, options?: ReadOptions): Promise<schema.CustomerOrders> {
    const params = { path: { customer_id: customerPath(customerId) }, query };
    return taken(await this.api.GET("/api/v1/orders/customer/{customer_id}", { params, ...sent(options) }));
  }

  /** All orders of a customer, page by page as they are asked for. */
  async *eachCustomerOrder(customerId: string, query?: Query<"listCustomerOrders">, options?: ReadOptions): AsyncGenerator<schema.OrderRow> {
    yield* this.#each(await this.listCustomerOrders(customerId, query, options), (page) => page.orders, options);
  }

  async searchOrders(query: Query<"searchOrders">, options?: ReadOptions): Promise<schema.FoundOrders> {
    return taken(await this.api.GET("/api/v1/orders/search", { params: { query }, ...sent(options) }));
  }

  async *eachFoundOrder(query: Query<"searchOrders">, options?: ReadOptions): AsyncGenerator<FoundOrder> {
    yield* this.#each(await this.searchOrders(query, options), (page) => page.orders, options);
  }

  async listOrders(query: Query<"listOrders"> = {}, options?: ReadOptions): Promise<schema.ListedOrders> {
    return taken(await this.api.GET("/api/v1/orders", { params: { query }, ...sent(options) }));
  }

  async *eachOrder(query?: Query<"listOrders">, options?: ReadOptions): AsyncGenerator<ListedOrder> {
    yield* this.#each(await this.listOrders(query, options), (page) => page.orders, options);
  }

  async getStats(query: Query<"getStats">, options?: ReadOptions): Promise<schema.Stats> {
    return taken(await this.api.GET("/api/v1/stats", { params: { query }, ...sent(options) }));
  }

  // Fulfilment.

  async recordDelivery(orderId: string, options?: CommandOptions): Promise<schema.DeliveryRecorded> {
    return taken(await this.api.POST("/api/v1/orders/{order_id}/delivery", { params: { path: { order_id: orderId } }, ...sent(options) }));
  }

  async requestRefund(orderId: string, refund: schema.RequestRefund, options?: CommandOptions): Promise<schema.RefundAccepted> {
    return taken(await this.api.POST("/api/v1/orders/{order_id}/refunds", { params: { path: { order_id: orderId } }, body: refund, ...sent(options) }));
  }

  async resumeFulfilment(orderId: string, resume: schema.ResumeFulfilment, options?: CommandOptions): Promise<schema.ResumeAccepted> {
    const params = { path: { order_id: orderId } };
    return taken(await this.api.POST("/api/v1/orders/{order_id}/fulfilment/resume", { params, body: resume, ...sent(options) }));
  }

  async skipStep(orderId: string, skip: schema.SkipStep, options?: CommandOptions): Promise<schema.SkipAccepted> {
    const params = { path: { order_id: orderId } };
    return taken(await this.api.POST("/api/v1/orders/{order_id}/fulfilment/skip", { params, body: skip, ...sent(options) }));
  }

  async resumeOrders(resume: schema.ResumeOrders, options?: CommandOptions): Promise<schema.OrdersResumed> {
    return taken(await this.api.POST("/api/v1/fulfilment/resume", { body: resume, ...sent(options) }));
  }

  async getLedger(orderId: string, options?: ReadOptions): Promise<schema.Ledger> {
    return taken(await this.api.GET("/api/v1/orders/{order_id}/ledger", { params: { path: { order_id: orderId } }, ...sent(options) }));
  }

  // History.

  async getTimeline(orderId: string, options?: ReadOptions): Promise<schema.Timeline> {
    return taken(await this.api.GET("/api/v1/orders/{order_id}/timeline", { params: { path: { order_id: orderId } }, ...sent(options) }));
  }

  async getOrderEvents(orderId: string, query: Query<"getOrderEvents"> = {}, options?: ReadOptions): Promise<schema.History> {
    return taken(await this.api.GET("/api/v1/orders/{order_id}/events", { params: { path: { order_id: orderId }, query }, ...sent(options) }));
  }

  async *eachOrderEvent(orderId: string, query?: Query<"getOrderEvents">, options?: ReadOptions): AsyncGenerator<schema.PastEvent> {
    yield* this.#each(await this.getOrderEvents(orderId, query, options), (page) => page.events, options);
  }

  async listEvents(query: Query<"listEvents">, options?: ReadOptions): Promise<schema.EventList> {
    return taken(await this.api.GET("/api/v1/events", { params: { query }, ...sent(options) }));
  }

  async *eachEvent(query: Query<"listEvents">, options?: ReadOptions): AsyncGenerator<ListedEvent> {
    yield* this.#each(await this.listEvents(query, options), (page) => page.events, options);
  }

  // Customers and products.

  async getCustomer(customerId: string, options?: ReadOptions): Promise<schema.Profile> {
    return taken(await this.api.GET("/api/v1/customers/{customer_id}", { params: { path: { customer_id: customerPath(customerId) } }, ...sent(options) }));
  }

  async putCustomer(customerId: string, profile: schema.PutCustomer, options?: ReadOptions): Promise<schema.Profile> {
    const params = { path: { customer_id: customerPath(customerId) } };
    return taken(await this.api.PUT("/api/v1/customers/{customer_id}", { params, body: profile, ...sent(options) }));
  }

  async listProducts(query: Query<"listProducts"> = {}, options?: ReadOptions): Promise<schema.ListedProducts> {
    return taken(await this.api.GET("/api/v1/products", { params: { query }, ...sent(options) }));
  }

  async *eachProduct(query?: Query<"listProducts">, options?: ReadOptions): AsyncGenerator<schema.Product> {
    yield* this.#each(await this.listProducts(query, options), (page) => page.products, options);
  }

  async getProduct(productId: string, options?: ReadOptions): Promise<schema.Product> {
    return taken(await this.api.GET("/api/v1/products/{product_id}", { params: { path: { product_id: productId } }, ...sent(options) }));
  }

  async putProduct(productId: string, product: schema.PutProduct, options?: ReadOptions): Promise<schema.Product> {
    return taken(await this.api.PUT("/api/v1/products/{product_id}", { params: { path: { product_id: productId } }, body: product, ...sent(options) }));
  }

  async adjustStock(productId: string, adjustment: schema.AdjustStock, options?: CommandOptions): Promise<schema.StockAdjusted> {
    const params = { path: { product_id: productId } };
    return taken(await this.api.POST("/api/v1/products/{product_id}/stock-adjustments", { params, body: adjustment, ...sent(options) }));
  }

  // Operation.

  /** What a consumer has not been able to handle; with `settled`, what became of it. */
  async listDeadLetters(query: Query<"listDeadLetters">, options?: ReadOptions): Promise<schema.DeadLetters> {
    return taken(await this.api.GET("/api/v1/dead-letters", { params: { query }, ...sent(options) }));
  }

  async *eachDeadLetter(query: Query<"listDeadLetters">, options?: ReadOptions): AsyncGenerator<schema.DeadLetter> {
    yield* this.#each(await this.listDeadLetters(query, options), (page) => page.dead_letters, options);
  }

  /** Works for 20 seconds at most. While the answer has `next`, again with that as `after`: what has failed is passed over then. */
  async redriveDeadLetters(redrive: schema.RedriveDeadLetters, options?: CommandOptions): Promise<schema.DeadLettersRedriven> {
    return taken(await this.api.POST("/api/v1/dead-letters/redrive", { body: redrive, ...sent(options) }));
  }

  /** As `redriveDeadLetters`. What it means is in the answer's `consequence`, also of a dry run. */
  async discardDeadLetters(discard: schema.DiscardDeadLetters, options?: CommandOptions): Promise<schema.DeadLettersDiscarded> {
    return taken(await this.api.POST("/api/v1/dead-letters/discard", { body: discard, ...sent(options) }));
  }

  /** Asked once: a service that says what of it is down has answered. */
  async getHealth(options?: ReadOptions): Promise<schema.Health> {
    const answer = await this.api.GET("/health", { fetch: this.#sendWith({ attempts: 1 }), ...sent(options) });
    const down = answer.error;
    return down && "components" in down ? down : taken(answer);
  }

  /** As Prometheus reads it. */
  async getMetrics(options?: ReadOptions): Promise<string> {
    return taken(await this.api.GET("/metrics", { parseAs: "text", ...sent(options) }));
  }

  /** The rows of a page and of all that follow it. */
  async *#each<Page extends { next: schema.Link }, Row>(first: Page, rows: (page: Page) => Row[], options?: ReadOptions): AsyncGenerator<Row> {
    for (let page = first; ; ) {
      yield* rows(page);
      if (!page.next) return;
      if (!page.next.startsWith("/")) throw new TypeError(`this is no link to a page: ${page.next}`);
      const { headers, signal } = sent(options);
      const response = await this.#send(new Request(this.#baseUrl + page.next, { headers, ...(signal && { signal }) }));
      page = taken<Page>({ response, ...(response.ok ? { data: await response.json() } : { error: await body(response) }) });
    }
  }

  #known(answer: Answer<schema.Order>): schema.Order {
    const order = taken(answer);
    const etag = answer.response.headers.get("etag");
    if (etag) this.#etags.set(order, etag);
    return order;
  }
}

interface Answer<Body> {
  data?: Body;
  error?: unknown;
  response: Response;
}

function taken<Body>({ data, error, response }: Answer<Body>): Body {
  if (!response.ok) throw problemOf(response, error, sentWith(response), retryAfter(response));
  return data as Body;
}

async function body(response: Response): Promise<unknown> {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function sent({ idempotencyKey, correlationId, signal }: CommandOptions = {}) {
  const headers = {
    ...(idempotencyKey !== undefined && { "Idempotency-Key": idempotencyKey }),
    ...(correlationId !== undefined && { "X-Correlation-Id": correlationId }),
  };
  return { headers, ...(signal && { signal }) };
}

/** A customer as a part of a path, as the service's own links have it: percent-encoding does not carry every id. */
function customerPath(id: string): string {
  if (id === "me" || (/^[A-Za-z0-9._-]+$/.test(id) && !["events", "ledger", ".", ".."].includes(id))) return id;
  return `~${btoa(id).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

import { type IncomingHttpHeaders, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

import { type ClientOptions, OrderClient } from "@order-service/client";

export interface Received {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
  at: number;
}

type Handler = (response: ServerResponse, request: Received, number: number) => void;

/** A client, and the server that it talks to, which does these things one after the other, and the last one for ever. */
export async function serving(test: TestContext, handlers: Handler[], options: Partial<ClientOptions> = {}) {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      received.push({ method, url, headers, body, at: Date.now() });
      handlers[Math.min(received.length, handlers.length) - 1]?.(response, received.at(-1)!, received.length);
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/stage/`;
  const retries = { pauseMs: 10, ...options.retries };
  return { client: new OrderClient({ baseUrl, token: () => "a-token", ...options, retries }), received, baseUrl };
}

export function answer(status: number, body: unknown, headers: Record<string, string> = {}): Handler {
  return (response) => {
    const type = status < 400 ? "application/json" : "application/problem+json";
    response.writeHead(status, { "content-type": type, ...headers }).end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

export function problem(status: number, word: string, members: object = {}, headers: Record<string, string> = {}): Handler {
  const type = `urn:order-service:problem:${word}`;
  const body = { type, title: "No", status, detail: "not so", instance: "/api/v1/orders", correlation_id: "there", ...members };
  return answer(status, body, headers);
}

export const hangUp: Handler = (response) => response.destroy();
/** Begins an answer and never ends it. */
export const stall: Handler = (response) => response.writeHead(200, { "content-type": "application/json" }).write('{"order_id":');
export const silence: Handler = () => {};

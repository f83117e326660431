import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { answer, problem, serving } from "./server.js";

const HERE = fileURLToPath(new URL("..", import.meta.url));
// npm hands what it was started with on to the npm that it starts, which is to be about another folder.
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.toLowerCase().startsWith("npm_")));

async function run(command: string, args: string[], cwd: string, more: Record<string, string> = {}): Promise<string> {
  const options = { cwd, env: { ...ENVIRONMENT, ...more }, timeout: 120_000 };
  const { stdout } = await promisify(execFile)(command, args, options).catch((error: { stdout: string; stderr: string }) =>
    assert.fail(`${command} ${args.join(" ")}: ${error.stdout}${error.stderr}`),
  );
  return stdout;
}

const PROGRAM = `
import { OrderClient, ProblemError, type BusEventOf, type Order } from "@order-service/client";

const client = new OrderClient({ baseUrl: process.env.API_URL!, token: async () => "a-token", retries: { pauseMs: 1 } });
const { order_id, version } = await client.placeOrder({
  customer_id: "anna",
  items: [{ product_id: "tea-longjing", quantity: 1 }],
  shipping_address: { street: "8 Queen's Road", state: "Hong Kong Island", country: "HK" },
});
const order: Order = await client.waitForVersion(order_id, version);
console.log(order.status);
for await (const { id, customer, attention } of client.eachOrder({ status: "needs_attention" })) console.log(id, customer.email, attention?.step);
for await (const event of client.eachOrderEvent(order_id)) {
  if (event.type === "OrderCancelRequested") console.log(event.data.note?.length, event.actor);
}
try {
  await client.cancelOrder(order_id, { reason: "changed my mind" });
} catch (error) {
  if (!(error instanceof ProblemError) || !error.is("already-made")) throw error;
  console.log(error.problem.found.charged.amount);
}

export function consumed(event: BusEventOf<"OrderRejected">): string | undefined {
  return event.detail.data?.reason.code;
}

// What is not in the contract is not in the types.
export function misspelt() {
  // @ts-expect-error a status that there is not
  client.listOrders({ status: "lost" });
  // @ts-expect-error an order without lines
  client.placeOrder({ customer_id: "anna", shipping_address: { street: "1", country: "HK" } });
  // @ts-expect-error a member that there is not
  return order.colour;
}
`;
const COMPILED = { compilerOptions: { target: "ES2022", module: "NodeNext", lib: ["ES2022", "DOM"], strict: true, types: ["node"] } };

it("the package has what it needs, and works where it is installed", async (test) => {
  const project = await mkdtemp(join(tmpdir(), "client-"));
  test.after(() => rm(project, { recursive: true }));
  const [packed] = JSON.parse(await run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", project], HERE));
  const modules = ["client", "errors", "index", "schema", "transport"].flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`]);
  const expected = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", ...modules, "package.json"];
  assert.deepEqual(packed.files.map((file: { path: string }) => file.path).sort(), expected);

  const { devDependencies } = JSON.parse(await readFile(join(HERE, "package.json"), "utf8"));
  await writeFile(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await writeFile(join(project, "program.ts"), PROGRAM);
  const [, example = ""] = (await readFile(join(HERE, "README.md"), "utf8")).split(/^```\w*$/m);
  await writeFile(join(project, "readme.ts"), `${example}\ndeclare const signedIn: { accessToken(): Promise<string> };\n`);
  await writeFile(join(project, "tsconfig.json"), JSON.stringify(COMPILED));
  const others = [`@types/node@${devDependencies["@types/node"]}`];
  await run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", packed.filename, ...others], project);
  await run(process.execPath, [join(HERE, "node_modules/typescript/bin/tsc")], project);

  const row = { id: "7e108758", customer: { email: "anna@example.com" }, attention: { step: "refund-payment" } };
  const { baseUrl } = await serving(test, [
    answer(201, { order_id: "7e108758", version: 1 }),
    problem(503, "unavailable"),
    answer(200, { status: "created" }),
    answer(200, { orders: [row], next: null }),
    answer(200, { events: [{ type: "OrderCancelRequested", data: { note: "third time" }, actor: "staff:ben" }], next: null }),
    problem(409, "already-made", { found: { charged: { amount: 1999, currency: "CNY" } } }),
  ]);
  const printed = await run(process.execPath, ["program.js"], project, { API_URL: baseUrl });
  assert.deepEqual(printed.trim().split("\n"), ["created", "7e108758 anna@example.com refund-payment", "10 staff:ben", "1999"]);
});

it("the package needs nothing of Node", async () => {
  const dist = join(HERE, "dist");
  for (const name of (await readdir(dist)).filter((name) => name.endsWith(".js"))) {
    const code = await readFile(join(dist, name), "utf8");
    for (const [, from = ""] of code.matchAll(/(?:from|import)\s*\(?["']([^"']+)["']/g)) assert.match(from, /^(\.\/\w+\.js|openapi-fetch)$/);
    assert.doesNotMatch(code, /\b(process|Buffer|require|__dirname|setImmediate)\b/);
  }
});

it("the lock file leaves open where packages come from", async () => {
  assert.doesNotMatch(await readFile(join(HERE, "package-lock.json"), "utf8"), /"resolved"|registry/);
});

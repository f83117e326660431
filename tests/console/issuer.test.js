// The console in a real browser, of a stack that takes the tokens of another issuer (tests/sign_in_suite.py starts both).
//
// Wants CONSOLE_URL and ISSUER_URL.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { CONSOLE_URL, ISSUER_URL, CHROMIUM = "/usr/bin/chromium" } = process.env;
let browser;

before(async () => {
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"] });
});

after(() => browser?.close());

async function signIn(who) {
  const page = await browser.newPage({ locale: "en-US" });
  page.setDefaultTimeout(20_000);
  const [requests, answers] = [[], []];
  page.on("request", (request) => requests.push(request));
  page.on("response", (answer) => answers.push(answer));
  await page.goto(`${CONSOLE_URL}/orders`);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("button", { name: who }).click();
  await page.waitForURL(`${CONSOLE_URL}/orders`);
  await page.locator("h1").waitFor();
  await page.waitForFunction(() => !document.querySelector(".loading"));
  return { page, requests, answers };
}

test("staff sign in at the issuer, see orders, and sign out there", async () => {
  const { page, requests, answers } = await signIn("Ben");
  await page.getByRole("heading", { name: "Orders" }).waitFor();
  const statuses = answers.filter((answer) => answer.url().includes("/api/v1/orders")).map((answer) => answer.status());
  assert.deepEqual([...new Set(statuses)], [200]);
  const authorize = new URL(requests.find((request) => request.url().startsWith(`${ISSUER_URL}/authorize?`)).url());
  assert.equal(authorize.searchParams.get("scope"), "openid orders");
  assert.ok(requests.some((request) => request.url() === `${ISSUER_URL}/token`));
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in", exact: true }).waitFor();
  assert.ok(requests.some((request) => request.url().startsWith(`${ISSUER_URL}/logout?`)), "the issuer's session goes on");
  await page.close();
});

test("somebody who is not of staff is told so", async () => {
  const { page, requests } = await signIn("Anna");
  await page.getByRole("heading", { name: "not one of staff" }).waitFor();
  assert.ok(!requests.some((request) => request.url().includes("/api/v1/")), "asked on their behalf");
  await page.close();
});

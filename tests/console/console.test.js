// The console in a real browser, on the local stack: what staff do all day, and what must never be.
//
// Wants CONSOLE_URL, API_URL, the customers' ids, a token of staff, and PASSWORD of the local users. Pictures go to ARTEFACTS.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { CONSOLE_URL, API_URL, CUSTOMER_1_ID, CUSTOMER_2_ID, STAFF_TOKEN, PASSWORD, ARTEFACTS = "artefacts", CHROMIUM = "/usr/bin/chromium" } = process.env;
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const AXE = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const PATIENCE = 60_000; // milliseconds, for whatever the service does by itself, also on a busy machine
const HOSTILE = `<img src=x onerror="window.hacked=1">`;
const PAGES = ["", "/orders", "/attention", "/letters", "/customers?q=Anna", "/catalogue", "/events?type=OrderCreated", "/sandbox"];

const { origin } = new URL(CONSOLE_URL);
const asked = new Set(); // origins of all requests of all pages
let browser;
let issuer;

before(async () => {
  mkdirSync(ARTEFACTS, { recursive: true });
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
  issuer = new URL((await (await fetch(`${API_URL}/console/config.json`)).json()).sign_in.token_url).origin;
  await api("PUT", `/api/v1/customers/${CUSTOMER_1_ID}`, { first_name: "Anna", last_name: "王", email: "anna@example.com" });
});

after(() => browser?.close());

// ---------------------------------------------------------------- what tests are made of

async function api(method, path, body) {
  const answer = await fetch(API_URL + path, { method, headers: { authorization: `Bearer ${STAFF_TOKEN}`, "content-type": "application/json" }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

async function place(payment_method = "pm_card_visa", postal_code = "200001", customer_id = CUSTOMER_1_ID) {
  const shipping_address = { street: "1 Nanjing Road", city: "Shanghai", state: "Shanghai", country: "CN", postal_code };
  const order = { customer_id, items: [{ product_id: "tea-longjing", quantity: 1 }], shipping_address, payment_method };
  return (await api("POST", "/api/v1/orders", order)).order_id;
}

/** Waits until the order has this status. */
async function reaches(id, status) {
  const deadline = Date.now() + PATIENCE;
  let seen;
  while (Date.now() < deadline) {
    const answer = await fetch(`${API_URL}/api/v1/orders/${id}`, { headers: { authorization: `Bearer ${STAFF_TOKEN}` } });
    seen = answer.ok && (await answer.json());
    if (seen?.status === status) return seen;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`the order ${id} is ${seen?.status} and not ${status}`);
}

/** A page of its own, which must not fail, and what it has asked for. */
async function open(test, options = {}) {
  const context = await browser.newContext({ locale: "en-US", viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const [complaints, requests] = [[], []];
  page.on("request", (request) => {
    requests.push(request);
    asked.add(new URL(request.url()).origin);
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && !/Failed to load resource/.test(message.text()) && complaints.push(message.text()));
  page.on("dialog", (dialog) => complaints.push(`a dialog of the browser: ${dialog.message()}`));
  test.after(async () => {
    await context.close();
    assert.deepEqual(complaints, []);
  });
  return { page, requests };
}

async function signIn(page, who, path = "") {
  await page.goto(CONSOLE_URL + path);
  await page.getByRole("button", { name: /^(Sign in|登录)$/ }).click();
  await page.getByLabel("Username").fill(who);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(CONSOLE_URL + path);
  await page.locator("h1").waitFor();
}

/** Goes on inside the page, since a new one would have to sign in again. */
async function visit(page, path) {
  await page.evaluate((href) => {
    const link = document.createElement("a");
    link.href = href;
    document.getElementById("content").append(link);
    link.click();
    link.remove();
  }, `/console${path}`);
  await page.waitForFunction(() => !document.querySelector(".loading"));
}

async function isClean(page, what) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ target }) => target.join(" "))]), [], what);
}

const picture = (page, name) => page.screenshot({ path: `${ARTEFACTS}/${name}.png` });

// ---------------------------------------------------------------- who gets in

test("staff sign in and out by the issuer's page with PKCE, and no token is kept or shown", async (t) => {
  const { page, requests } = await open(t);
  await signIn(page, "staff-1", "/orders?status=confirmed");
  const authorize = new URL(requests.find((request) => request.url().includes("/oauth2/authorize")).url());
  assert.equal(authorize.searchParams.get("code_challenge_method"), "S256");
  assert.equal(page.url(), `${CONSOLE_URL}/orders?status=confirmed`, "back where it began, without the code");
  await page.getByRole("heading", { name: "Orders" }).waitFor();
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.doesNotMatch(kept, /eyJ|verifier/);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  assert.ok(requests.some((request) => request.url().startsWith(`${issuer}/logout?`)), "the issuer's session goes on");
  assert.equal(page.url(), CONSOLE_URL);
  assert.ok(requests.every((request) => !request.url().includes("eyJ")), "a token in a URL");
});

test("a sign-in that was not begun here is not taken", async (t) => {
  const { page, requests } = await open(t);
  await page.goto(`${CONSOLE_URL}?code=stolen&state=strange`);
  await page.getByRole("alert").filter({ hasText: "not begun here" }).waitFor();
  assert.ok(!requests.some((request) => request.url().includes("/oauth2/token")));
  assert.equal(page.url(), CONSOLE_URL);
});

test("a customer's token is shown nothing, and asks for nothing", async (t) => {
  const { page, requests } = await open(t);
  await signIn(page, "customer-1");
  await page.getByRole("heading", { name: "not one of staff" }).waitFor();
  assert.equal(await page.getByRole("navigation").count(), 0);
  assert.ok(!requests.some((request) => request.url().includes("/api/")));
});

test("a session that is over asks to sign in again, and so does a page that is loaded anew", async (t) => {
  const { page } = await open(t);
  await signIn(page, "staff-1");
  await page.reload();
  await signIn(page, "staff-1");
  await page.route(/\/api\/v1\/|\/oauth2\/token/, (route) => route.fulfill({ status: 401, json: { message: "Unauthorized" }, headers: { "access-control-allow-origin": "*" } }));
  await visit(page, "/orders");
  await page.getByRole("alert").filter({ hasText: "The session is over" }).waitFor();
});

// ---------------------------------------------------------------- what staff do

test("an order is found, refunded, and the refund is seen to arrive", async (t) => {
  const id = await place();
  await reaches(id, "confirmed");
  const { page, requests } = await open(t);
  await signIn(page, "staff-1");
  await page.evaluate(() => (window.sameDocument = true));
  await page.keyboard.press("/");
  await page.keyboard.type("anna@example");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/console\/orders\?q=/);
  await page.locator(`main a[href$="${id}"]`).click();
  await page.getByRole("button", { name: "Refund…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("Up to CN¥128.00 can be given back").waitFor();
  const give = dialog.getByRole("button", { name: "Give it back" });
  await dialog.getByLabel("Amount").fill("10.00");
  assert.ok(await give.isDisabled(), "without a reason");
  await dialog.getByLabel("Reason").fill("one packet was damaged");
  await dialog.getByLabel("Amount").fill("128.01");
  assert.ok(await give.isDisabled(), "more than was paid");
  await dialog.getByLabel("Amount").fill("10.00");
  await isClean(page, "the dialog");
  await give.click();
  await page.locator(".refund.completed").filter({ hasText: "given back" }).waitFor();
  assert.equal(await page.evaluate(() => window.sameDocument), true, "without a reload");
  await page.getByRole("table").filter({ hasText: "Refunded" }).getByText("CN¥10.00").nth(1).waitFor();
  assert.equal((await reaches(id, "confirmed")).refunds[0].status, "completed");
  const looks = requests.filter((request) => request.url().endsWith(`/orders/${id}`) && request.method() === "GET");
  assert.ok(looks.some((request) => request.headers()["if-none-match"]), "the order is asked for anew, whether or not it has changed");
});

test("a stuck order is undone as far as it goes, resumed, and goes on without the step", async (t) => {
  const id = await place("pm_refund_fails");
  await reaches(id, "confirmed");
  const { page } = await open(t);
  await signIn(page, "staff-1", `/orders/${id}`);
  await page.getByRole("button", { name: "Cancel…" }).click();
  const dialog = page.getByRole("dialog");
  assert.deepEqual(await dialog.locator(".undo li").allTextContents(), ["the parcel is called back, if the carrier still can", "CN¥128.00 goes back to the customer", "the goods go back into stock"]);
  await dialog.getByLabel("Reason").fill("no tea wanted");
  await dialog.getByRole("button", { name: "Cancel the order" }).click();
  await page.locator(".verdict.stuck").getByText("refund-payment was given up: RequestRefused").waitFor();
  await visit(page, "/attention");
  const row = page.getByRole("listitem").filter({ has: page.locator(`a[href$="${id}"]`) });
  const more = page.getByRole("button", { name: /^Show \d+ more$/ });
  while (!(await row.count())) {
    await row.or(more).first().waitFor();
    if (await more.count()) await more.click();
  }
  await row.getByRole("table").getByText("CN¥128.00").first().waitFor();
  await row.getByRole("button", { name: "Resume…" }).click();
  await dialog.getByLabel("Reason").fill("the bank answers again");
  await dialog.getByRole("button", { name: "Let it go on" }).click();
  await dialog.waitFor({ state: "detached" });
  await visit(page, `/orders/${id}`);
  await page.getByRole("listitem").filter({ hasText: "the bank answers again" }).first().waitFor();
  await page.getByRole("button", { name: "Skip the step…" }).click({ timeout: PATIENCE });
  await dialog.getByText("no money goes back by the provider").waitFor();
  await dialog.getByLabel("Reason").fill("paid back by bank transfer");
  await dialog.getByRole("button", { name: "Go on without it" }).click();
  await page.locator(".summary .status.cancelled").waitFor();
});

test("what only supervisors may do is not offered to others", async (t) => {
  const id = await place("pm_card_visa", "SANDBOX-KEEP");
  await reaches(id, "confirmed");
  await api("POST", `/api/v1/orders/${id}/cancel`, { reason: "changed my mind" });
  await reaches(id, "needs_attention");
  const { page } = await open(t);
  await signIn(page, "staff-2", `/orders/${id}`);
  await page.getByRole("button", { name: "Resume…" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Skip the step…" }).count(), 0);
  await page.route("**/api/v1/dead-letters**", (route) => route.fulfill({ json: { consumer: "project-orders", dead_letters: [{ id: `order/${id}`, kind: "parked", aggregate_type: "order", aggregate_id: id, first_sequence: 5, last_sequence: 5, error_type: "Unreadable", error: "no", since: "2026-03-01T08:00:00Z", tries: 1, last_tried_at: "2026-03-01T08:00:00Z", settlement: null }], next: null } }));
  await visit(page, "/letters");
  await page.getByRole("button", { name: "Redrive…" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Discard…" }).count(), 0);
});

test("the slider goes through the versions, and says what each has changed", async (t) => {
  const id = await place("pm_card_declined");
  await reaches(id, "rejected");
  const { page } = await open(t);
  await signIn(page, "staff-1", `/orders/${id}`);
  const slider = page.getByRole("slider");
  await page.getByText("Rejected, and undone").first().waitFor();
  await slider.focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await page.locator(".slider").getByText("Changed: status").waitFor();
  await page.locator(".summary .status.reserved").waitFor();
  assert.equal(page.url(), `${CONSOLE_URL}/orders/${id}?at=2`);
  await page.getByRole("button", { name: "Back to now" }).click();
  await page.locator(".summary .status.rejected").waitFor();
  await page.locator(".track .failed").getByText("Paid").waitFor();
  await picture(page, "rejected");
});

test("what comes next is said in Chinese too, and in the API's English where the console has no words for it", async (t) => {
  const [confirmed, stuck] = await Promise.all([place(), place("pm_refund_fails")]);
  await Promise.all([confirmed, stuck].map((id) => reaches(id, "confirmed")));
  await api("POST", `/api/v1/orders/${stuck}/cancel`, { reason: "to be stuck" });
  await reaches(stuck, "needs_attention");
  const { page } = await open(t, { locale: "zh-CN" });
  await signIn(page, "staff-1");
  for (const [id, said] of [[confirmed, "sandbox 正在配送包裹。"], [stuck, /^排除 \w+ 的原因后，请恢复或跳过步骤 refund-payment。$/]]) {
    await visit(page, `/orders/${id}`);
    await page.locator("section").filter({ hasText: "接下来" }).locator("p[lang=zh]").getByText(said).waitFor();
  }
  const told = await page.evaluate(async () => {
    const { comesNext } = await import("/console/text.js");
    const tries = { step: "process-payment", error: "Unavailable" };
    return [{ code: "take_payment", what: "The payment is being taken." }, { code: "paint_it", what: "It is being painted." }].map((next) => comesNext({ next, tries }));
  });
  assert.deepEqual(told, [{ lang: "zh", what: "正在收款。步骤 process-payment 因 Unavailable 失败，正在重试。" }, { lang: "en", what: "It is being painted." }]);
});

test("an order that goes wrong is placed in the sandbox, and watched", async (t) => {
  const { page } = await open(t);
  await signIn(page, "staff-1", "/sandbox");
  await page.getByRole("button", { name: "Place it: The carrier refuses the paid parcel" }).click();
  await page.waitForURL(/\/console\/orders\/[0-9a-f-]{36}$/);
  await page.locator(".summary .status.rejected").waitFor();
  await page.locator(".track .undone").filter({ hasText: "Paid" }).waitFor();
});

test("the stock of a product is changed, and the catalogue shows it", async (t) => {
  const id = `0-console-${1e14 - Date.now()}`; // on the first page of the list, also before those of earlier runs
  await api("PUT", `/api/v1/products/${id}`, { name: "Console tea", price: { amount: 500, currency: "JPY" }, stock: 5 });
  const { page } = await open(t);
  await signIn(page, "staff-2", "/catalogue");
  const row = page.getByRole("row").filter({ hasText: id });
  await row.getByText("¥500").waitFor();
  await row.getByRole("button", { name: "Stock…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("More or fewer").fill("-2");
  await dialog.getByLabel("Reason").fill("two were damp");
  await dialog.getByRole("button", { name: "Change it" }).click();
  await row.getByRole("cell", { name: "3", exact: true }).waitFor();
});

test("names and reasons that nobody means well with are shown as text", async (t) => {
  await api("PUT", `/api/v1/customers/${CUSTOMER_2_ID}`, { first_name: "Mallory", last_name: HOSTILE, email: "mallory@example.com" });
  const id = await place("pm_card_visa", "200001", CUSTOMER_2_ID);
  await reaches(id, "confirmed");
  await api("POST", `/api/v1/orders/${id}/refunds`, { amount: { amount: 100, currency: "CNY" }, reason: `</script>${HOSTILE}` });
  const { page } = await open(t);
  await signIn(page, "staff-1", `/orders/${id}`);
  await page.getByText(`</script>${HOSTILE}`).first().waitFor();
  await page.getByRole("link", { name: `Mallory ${HOSTILE}` }).waitFor();
  await visit(page, `/customers/${CUSTOMER_2_ID}`);
  await page.getByRole("heading", { name: `Mallory ${HOSTILE}` }).waitFor();
  await visit(page, "/events?type=RefundRequested");
  await page.getByText(`</script>${HOSTILE}`).first().waitFor();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator("img[src=x]").count(), 0);
});

test("a link leads to no other path of the API than that of an order, or of the customer that it names", async (t) => {
  const { page, requests } = await open(t);
  await signIn(page, "staff-1");
  for (const id of ["..%2Fproducts", `customer%2F${CUSTOMER_2_ID}`, "search%3Fq=anna", "undefined"]) {
    await visit(page, `/orders/${id}`);
    await page.getByRole("heading", { name: "There is no such page" }).waitFor();
  }
  const asked = () => requests.map((request) => new URL(request.url()).pathname);
  assert.deepEqual(asked().filter((path) => /^\/api\/v1\/(products|orders\/.)/.test(path)), []);
  // Somebody who is called so is not whoever looks at them.
  const request = page.waitForRequest((request) => request.url().includes("/api/v1/customers/"));
  await visit(page, "/customers/me");
  assert.equal(new URL((await request).url()).pathname, "/api/v1/customers/~bWU");
});

test("dead letters are shown as text, and redriven or discarded once it is said what comes of that", async (t) => {
  const id = "0197a3c2-7b1e-5c44-9d55-3f1f5c0c9a10";
  const parked = { id: `order/${id}`, kind: "parked", aggregate_type: "order", aggregate_id: id, first_sequence: 5, last_sequence: 7, error_type: "Unreadable", error: `the event cannot be read: ${HOSTILE.repeat(5)}`, since: "2026-03-01T08:00:00Z", tries: 3, last_tried_at: "2026-03-01T09:00:00Z", settlement: null };
  const waiting = [parked, { ...parked, id: "customer/anna", aggregate_type: "customer", aggregate_id: "anna", first_sequence: 1, last_sequence: 1 }, { ...parked, id: "message/9", kind: "batch", aggregate_type: null, aggregate_id: null, first_sequence: null, last_sequence: null, error_type: "BatchGivenUp" }];
  const settlement = { outcome: "discarded", by: "staff:anna", reason: `</script>${HOSTILE}`, at: "2026-03-01T10:00:00Z" };
  const { page } = await open(t, { viewport: { width: 360, height: 860 } });
  const sent = [];
  await page.route("**/api/v1/dead-letters**", async (route) => {
    const [request, url] = [route.request(), new URL(route.request().url())];
    const consumer = url.searchParams.get("consumer");
    if (request.method() === "GET") return route.fulfill({ json: { consumer, dead_letters: url.searchParams.get("settled") ? [{ ...parked, settlement }] : waiting, next: null } });
    const { dry_run = false, ...body } = request.postDataJSON();
    if (!dry_run) sent.push([url.pathname, body]);
    // One is done in each call, and one fails in each; there are two calls, or as many as somebody waits for.
    const next = dry_run || (body.after && body.reason !== "without end") ? null : `order/${sent.length}`;
    const done = dry_run ? 0 : 1;
    const failed = dry_run ? [] : [{ id: body.after ?? parked.id, error_type: "Unreadable", error: parked.error }];
    return route.fulfill({ json: { consumer: body.consumer, dry_run, matching: 2, redriven: done, discarded: done, failed, more: next !== null, next, consequence: "reads stay as they are" } });
  });
  await signIn(page, "staff-1", "/letters");
  const first = page.getByRole("listitem").filter({ has: page.locator(`a[href$="${id}"]`) });
  await first.getByText(HOSTILE).waitFor();
  await isClean(page, "dead letters");
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0, "a long error makes the page too wide");
  assert.equal(await page.getByRole("listitem").filter({ hasText: "BatchGivenUp" }).getByRole("button", { name: "Redrive…" }).count(), 0);
  const dialog = page.getByRole("dialog");
  await first.getByRole("button", { name: "Redrive…" }).click();
  await dialog.getByText("handled anew from the event table").waitFor();
  assert.ok(await dialog.getByRole("button", { name: "Redrive" }).isDisabled(), "nobody has said why");
  await dialog.getByLabel("Reason").fill("0.3.0 can read it");
  await isClean(page, "redrive");
  await dialog.getByRole("button", { name: "Redrive" }).click();
  await page.getByText("2 redriven. 2 failed: Unreadable.").waitFor();
  await first.getByRole("button", { name: "Discard…" }).click();
  await dialog.getByText("Reads show it as it was before").waitFor();
  await dialog.getByRole("button", { name: "Leave it" }).click();
  await first.getByRole("button", { name: "Discard…" }).click();
  await dialog.getByLabel("Reason").fill("seen up to 7");
  await dialog.getByRole("button", { name: "Discard" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Discard all with Unreadable…" }).click();
  await dialog.getByRole("heading", { name: "Never handle these 2?" }).waitFor();
  await dialog.getByLabel("Reason").fill("nobody wants it");
  await dialog.getByRole("button", { name: "Discard" }).click();
  await dialog.waitFor({ state: "detached" });
  const [consumer, reason] = ["project-orders", "nobody wants it"];
  const [redrive, discard] = [{ consumer, id: parked.id, reason: "0.3.0 can read it" }, { consumer, error_type: "Unreadable", reason }];
  const seen = { consumer, id: parked.id, last_sequence: 7, reason: "seen up to 7" };
  assert.deepEqual(sent, [
    ["/api/v1/dead-letters/redrive", redrive],
    ["/api/v1/dead-letters/redrive", { ...redrive, after: "order/1" }],
    ["/api/v1/dead-letters/discard", seen],
    ["/api/v1/dead-letters/discard", { ...seen, after: "order/3" }],
    ["/api/v1/dead-letters/discard", discard],
    ["/api/v1/dead-letters/discard", { ...discard, after: "order/5" }],
  ]);
  await page.getByRole("button", { name: "Redrive all with Unreadable…" }).click();
  await dialog.getByLabel("Reason").fill("without end");
  await dialog.getByRole("button", { name: "Redrive" }).click();
  await dialog.getByRole("status").filter({ hasText: /^[2-9] redriven\./ }).waitFor();
  await dialog.getByRole("button", { name: "Stop" }).click();
  await page.getByText(/redriven\. .*There are more: do it again\./).waitFor();
  const calls = sent.length;
  await page.waitForTimeout(500);
  assert.equal(sent.length, calls, "it goes on once it is stopped");
  await page.getByLabel("Status").selectOption("true");
  await page.getByText(settlement.reason).waitFor();
  await isClean(page, "settled");
  await page.getByLabel("Consumer").selectOption("publish-events");
  await page.waitForURL(/consumer=publish-events&settled=true$/);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

test("a request is copied for a terminal, without the token", async (t) => {
  const id = await place();
  await reaches(id, "confirmed");
  const { page } = await open(t, { permissions: ["clipboard-read", "clipboard-write"] });
  await signIn(page, "staff-1", `/orders/${id}`);
  await page.getByRole("button", { name: "Copy as curl" }).first().click();
  await page.getByText("The command takes its token from TOKEN").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `curl '${origin}/api/v1/orders/${id}' -H "authorization: Bearer $TOKEN"`);
});

test("money is written and read in the minor units of its currency, whatever is usual in shops", async (t) => {
  const { page } = await open(t);
  await page.goto(CONSOLE_URL);
  const read = await page.evaluate(async () => {
    const { minorUnits, money, typedMoney } = await import("/console/text.js");
    const { curl } = await import("/console/session.js");
    return {
      read: [["10", "CNY"], ["10,5", "CNY"], ["0.07", "CNY"], ["1.005", "CNY"], ["7", "JPY"], ["7.0", "JPY"], ["1.234", "KWD"], ["-1", "CNY"], ["", "CNY"], ["1e3", "CNY"]].map(([typed, currency]) => String(minorUnits(typed, currency))),
      written: [[1999, "CNY"], [7, "JPY"], [1234, "IQD"]].map(([amount, currency]) => [money({ amount, currency }), typedMoney({ amount, currency })]),
      quoted: curl("POST", "/x", { reason: "it's $HOME" }),
    };
  });
  assert.deepEqual(read.read, ["1000", "1050", "7", "NaN", "7", "NaN", "1234", "NaN", "NaN", "NaN"]);
  assert.deepEqual(read.written.map(([shown, typed]) => [shown.replace(/[^\d.]/g, ""), typed]), [["19.99", "19.99"], ["7", "7"], ["1.234", "1.234"]]);
  assert.ok(read.quoted.endsWith(`--json '{"reason":"it'\\''s $HOME"}'`), read.quoted);
});

// ---------------------------------------------------------------- how it looks

for (const [colorScheme, locale, width] of [["light", "en-US", 1280], ["dark", "zh-CN", 1280], ["dark", "en-US", 360], ["light", "zh-CN", 360]]) {
  test(`every page is accessible and fits: ${colorScheme}, ${locale}, ${width} pixels`, async (t) => {
    const id = await place("pm_card_visa", "SANDBOX-REFUSE");
    await reaches(id, "rejected");
    const { page } = await open(t, { colorScheme, locale, viewport: { width, height: 860 }, reducedMotion: "reduce" });
    await page.goto(CONSOLE_URL);
    await page.getByRole("button", { name: /Sign in|登录/ }).waitFor();
    await isClean(page, "signed out");
    await signIn(page, width > 400 ? "staff-1" : "staff-2"); // what one caller may ask in a minute is limited
    for (const path of [...PAGES, `/orders/${id}?at=3`, `/customers/${CUSTOMER_2_ID}`, "/nowhere"]) {
      await visit(page, path);
      await page.locator("h1").waitFor();
      await isClean(page, path);
      const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(tooWide <= 0, `${path} is ${tooWide} pixels too wide`);
      await picture(page, `${path.split(/[/?]/)[1] || "now"}${path.includes(id) ? "-order" : ""}-${colorScheme}-${locale.slice(0, 2)}-${width}`);
    }
  });
}

test("the whole console is less than 100 kB on its way, and asks nobody but its own origin and the issuer", async (t) => {
  const { page } = await open(t);
  const network = await page.context().newCDPSession(page);
  await network.send("Network.enable");
  const [urls, sizes] = [new Map(), new Map()]; // of each file, as it came first
  network.on("Network.responseReceived", ({ requestId, response }) => urls.set(requestId, response.url));
  network.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    const url = urls.get(requestId) ?? "";
    if (url.startsWith(CONSOLE_URL) && !url.includes("?") && !sizes.has(url)) sizes.set(url, encodedDataLength);
  });
  await page.goto(CONSOLE_URL);
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  const firstView = await page.evaluate(() => performance.now());
  await signIn(page, "staff-1");
  await page.locator(".canvas canvas").waitFor();
  const bytes = [...sizes.values()].reduce((sum, size) => sum + size);
  t.diagnostic(`${sizes.size} files, ${bytes} bytes with headers, first view after ${Math.round(firstView)} ms`);
  assert.ok(bytes > 20_000 && bytes < 100_000, `${bytes} bytes`);
  await picture(page, "now");
  assert.deepEqual([...asked].sort(), [origin, issuer].sort());
});

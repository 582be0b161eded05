// The page in a real Chromium: what a person does with it, with axe for accessibility, and with an eye on each request.
// Arguments: the tools' directory, and a JSON object: open (a server's URL), locked (one that wants `key`, or for
// reading `reader`), repo, and shots (a directory for screenshots, if they are wanted).
import { createRequire } from "node:module";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const [tools, text] = process.argv.slice(2);
const wanted = JSON.parse(text);
const require = createRequire(`${tools}/package.json`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 60_000;

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const faults = [];

async function tab(options = {}, context = null) {
  context ??= await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const origins = [wanted.open, wanted.locked].map((url) => new URL(url).origin);
  page.on("request", (request) => {
    if (!origins.includes(new URL(request.url()).origin)) faults.push(`a request to ${request.url()}`);
  });
  page.on("pageerror", (error) => faults.push(`an error: ${error.stack}`));
  page.on("console", (line) => {
    // That something is refused or not there the browser tells too: this page expects it at times.
    if (line.type() === "error" && !/status of (400|401|404|409)/.test(line.text())) faults.push(`the console: ${line.text()}`);
  });
  page.on("dialog", (dialog) => {
    faults.push(`a task's text was carried out: ${dialog.message()}`);
    dialog.dismiss();
  });
  return page;
}

// Not by a script tag, which the page's own policy refuses.
async function accessible(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document));
  const told = found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" | ")}`);
  assert.deepEqual(told, [], `${what} is not accessible`);
  assert.ok(found.passes.length > 10, `axe looked at ${what}`);
}

// The directory of a test is nobody's business.
async function shot(page, name) {
  await page.evaluate((repo) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = texts.nextNode());) {
      node.data = node.data.replaceAll(/\S+\/worktrees\//g, "~/.agenticore/worktrees/");
      for (const end of ["", ".git"]) node.data = node.data.replaceAll(repo.replace(/\.git$/, "") + end, "git.example.com/you/project" + end);
    }
  }, wanted.repo);
  await page.screenshot({ path: `${wanted.shots}/${name}.png` });
}

const rest = async (method, path, body, url = wanted.open) => {
  const answer = await fetch(url + path, { method, body: body && JSON.stringify(body), headers: { "content-type": "application/json" } });
  return answer.json();
};
const status = (page, text) => page.locator("#job-status", { hasText: text }).waitFor();

// ── without keys ──
const page = await tab();
await page.goto(wanted.open);
await page.getByRole("heading", { name: "Jobs" }).waitFor();
await page.locator("#live", { hasText: "live" }).waitFor();
await page.keyboard.press("Tab");
assert.equal(await page.evaluate(() => document.activeElement.textContent), "To the content");

// Submitted from the form; a hostile text is text.
const hostile = `<img src=x onerror="alert(1)"><script>alert(2)</script> mend the parser`;
await page.getByText("New job").click();
await page.getByRole("textbox", { name: "Task" }).fill(`${hostile}\n[[write new.txt <b>hello</b>]] [[say <i>done</i>]]`);
await page.locator("#submit").getByLabel("Repository").fill(wanted.repo);
await page.getByLabel("Labels").fill("team=core, run=7");
await page.getByRole("button", { name: "Submit" }).click();
await status(page, "succeeded");
assert.equal(await page.locator("#job-title").textContent(), hostile);
assert.equal(await page.locator("#output-text").textContent(), "<i>done</i>");
await page.locator("#diff-text .plus", { hasText: "+<b>hello</b>" }).waitFor();
await page.locator("#events strong", { hasText: "pushed" }).waitFor();
assert.ok((await page.locator("#facts").textContent()).includes("team=core"));
assert.equal(await page.locator("main img, main script, #output-text i").count(), 0);
await accessible(page, "a job");
const first = new URL(page.url()).searchParams.get("job");

// Resume, and retry.
await page.getByLabel("Go on with this conversation").fill("[[say resumed]]");
await page.getByRole("button", { name: "Resume" }).click();
await page.locator("#output-text", { hasText: "resumed" }).waitFor();
await page.getByRole("button", { name: "Retry" }).click();
await page.locator("#facts", { hasText: "Retry of" }).waitFor();
await status(page, "succeeded");

// A wrong request says which field, and loses nothing.
await page.locator("#back").click();
await page.getByText("New job").click();
await page.getByRole("textbox", { name: "Task" }).fill("t");
await page.locator("#submit").getByLabel("Model").fill("-x");
await page.getByRole("button", { name: "Submit" }).click();
await page.locator("#alert", { hasText: "`model` must be the name of a model" }).waitFor();
assert.equal(await page.evaluate(() => document.activeElement.id), "model");
assert.equal(await page.getByRole("textbox", { name: "Task" }).inputValue(), "t");

// The list is live; a job opens by its task's text; the button is called Cancel and asks back.
await page.goto(wanted.open);
await page.locator("#live", { hasText: "live" }).waitFor();
const { job } = await rest("POST", "/jobs", { task: "[[sleep 600000]] a long one" });
await page.getByRole("link", { name: "[[sleep 600000]] a long one" }).waitFor();
await page.locator("#jobs .running").waitFor();
await accessible(page, "the list");
await page.getByRole("link", { name: "[[sleep 600000]] a long one" }).focus();
await page.keyboard.press("Enter");
await status(page, "running");
await page.getByRole("button", { name: "Cancel", exact: true }).click();
await accessible(page, "the question");
await page.getByRole("button", { name: "Keep it running" }).click();
assert.equal((await rest("GET", `/jobs/${job.id}`)).job.status, "running");
await page.getByRole("button", { name: "Cancel", exact: true }).click();
await page.getByRole("button", { name: "Cancel the job" }).click();
await status(page, "cancelled");

// Filters stand in the address, and the way back leads back.
await page.goto(wanted.open);
await page.getByLabel("Search").fill("parser");
await page.keyboard.press("Enter");
await page.waitForURL(/\?q=parser$/);
await page.waitForFunction(() => document.querySelectorAll("#jobs tbody tr").length === 1);
await page.goto(`${wanted.open}/?status=cancelled&label=team%3Dcore`);
await page.getByText("No job is here.").waitFor();
assert.equal(await page.locator("#status").inputValue(), "cancelled");
await page.goBack();
await page.waitForURL(/\?q=parser$/);
await page.getByRole("link", { name: "All", exact: true }).click();
await page.getByRole("link", { name: "[[sleep 600000]] a long one" }).waitFor();
await page.locator("#pods", { hasText: "of 3" }).waitFor();
await page.goto(`${wanted.open}/?job=00000000-0000-4000-8000-000000000000`);
await page.locator("#alert", { hasText: "no such job" }).waitFor();

// Dark, and on a phone: nothing is wider than the screen.
const phone = await tab({ viewport: { width: 375, height: 740 }, colorScheme: "dark" });
for (const [name, url] of [["page-phone-list", ""], ["page-phone-job", `/?job=${first}`]]) {
  await phone.goto(wanted.open + url);
  await phone.locator(url ? "#events li" : "#jobs tbody tr").first().waitFor();
  await accessible(phone, `${name} in the dark`);
  const [wide, room] = await phone.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `${name} is ${wide} wide, and the screen ${room}`);
}

// What comes too late, for a view that was left, is not drawn, and buttons concern what is shown.
const late = await tab();
const held = [];
await late.route(`**/jobs/${first}`, (route) => held.push(route));
await late.goto(`${wanted.open}/?job=${first}`);
while (!held.length) await new Promise((wake) => setTimeout(wake, 20));
await late.evaluate((id) => { history.pushState(null, "", `/?job=${id}`); dispatchEvent(new PopStateEvent("popstate")); }, job.id);
await late.locator("#job-title", { hasText: "a long one" }).waitFor();
for (const route of held) await route.continue().catch(() => {});
await late.waitForTimeout(500);
assert.equal(await late.locator("#job-title").textContent(), "[[sleep 600000]] a long one");
const retried = late.waitForRequest(/\/retry$/);
await late.getByRole("button", { name: "Retry" }).click();
assert.ok((await retried).url().includes(job.id), "Retry concerns the job that is shown");
await late.locator("#facts", { hasText: "Retry of" }).waitFor();
await rest("DELETE", `/jobs/${new URL(late.url()).searchParams.get("job")}`);

// ── with keys ──
const context = await browser.newContext();
const locked = await tab({}, context);
await locked.goto(wanted.locked);
await locked.getByLabel("This server wants a key").waitFor();
assert.deepEqual(await locked.locator("main").getByRole("heading").allTextContents(), ["API key"]);
assert.equal(await locked.evaluate(() => document.activeElement.id), "key-text");
await accessible(locked, "the question for a key");
await locked.keyboard.type("not-it");
await locked.keyboard.press("Enter");
await locked.locator("#alert", { hasText: "does not know this key" }).waitFor();
await locked.keyboard.type(wanted.key);
await locked.keyboard.press("Enter");
await locked.getByRole("heading", { name: "Jobs" }).waitFor();
await locked.locator("#live", { hasText: "live" }).waitFor();
assert.ok(!locked.url().includes(wanted.key));
assert.equal(await locked.evaluate(() => localStorage.length + document.cookie.length), 0);
await locked.reload();
await locked.getByRole("heading", { name: "Jobs" }).waitFor();
const other = await tab({}, context);
await other.goto(wanted.locked);
await other.getByLabel("This server wants a key").waitFor();
await locked.getByRole("button", { name: "Forget the key" }).click();
await locked.getByLabel("This server wants a key").waitFor();
assert.equal(await locked.evaluate(() => sessionStorage.length), 0);

// A key in the address is taken out of it; one that may only read is shown nothing that would be refused.
const made = await fetch(`${wanted.locked}/jobs`, {
  method: "POST", body: JSON.stringify({ task: "[[say hi]] look" }),
  headers: { authorization: `Bearer ${wanted.key}`, "content-type": "application/json" },
});
const seen = (await made.json()).job.id;
const reader = await tab();
await reader.goto(`${wanted.locked}/?job=${seen}&api_key=${wanted.reader}`);
await status(reader, "succeeded");
assert.equal(reader.url(), `${wanted.locked}/?job=${seen}`);
await reader.locator("#fleet", { hasText: "slots" }).waitFor();
for (const id of ["actions", "resume"]) assert.ok(!(await reader.locator(`#${id}`).isVisible()), id);
await reader.locator("#back").click();
await reader.getByRole("link", { name: "[[say hi]] look" }).waitFor();
assert.ok(!(await reader.getByText("New job").isVisible()));
await reader.getByRole("button", { name: "Forget the key" }).click();
await reader.keyboard.type(wanted.key);
await reader.keyboard.press("Enter");
await reader.getByText("New job").waitFor();

// ── pictures ──
if (wanted.shots) {
  const task = "Skip empty lines in the parser\n\n[[write parser.py def lines(text):\n    return [line for line in text.splitlines() if line.strip()]\n]]" +
    " [[bash printf 'ran 41 tests, all passed']] [[say Empty lines are skipped now. All 41 tests pass.]]";
  const { job } = await rest("POST", "/jobs", { task, repo_url: wanted.repo, labels: { team: "core", show: "1" } });
  const labels = { show: "1" };
  await rest("POST", "/jobs", { task: "Plan the move to the new storage format\n[[sleep 600000]]", labels });
  await rest("POST", "/jobs", { task: "Why is the build red?\n[[error The linter is not installed]]", repo_url: wanted.repo, labels });
  await page.goto(`${wanted.open}/?job=${job.id}`);
  await status(page, "succeeded");
  await page.locator("#events strong", { hasText: "ended" }).first().waitFor();
  await page.setViewportSize({ width: 1100, height: 1500 });
  await shot(page, "page-job");
  await page.setViewportSize({ width: 1100, height: 760 });
  await page.goto(`${wanted.open}/?label=show%3D1`);
  await page.locator("#jobs .failed").first().waitFor();
  await shot(page, "page-list");
  await phone.goto(`${wanted.open}/?status=failed`);
  await phone.locator("#jobs tbody tr").first().waitFor();
  await phone.locator("summary", { hasText: "Filters" }).click();
  await shot(phone, "page-phone");
}

assert.deepEqual(faults, []);
await browser.close();
console.log("the page is well");

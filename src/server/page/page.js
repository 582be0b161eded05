// The page at `/`: the REST interface for people. Shows what the server says as text, never as markup; speaks to no
// other server; keeps nothing but the key, and that for this tab.

const KEY = "agenticore-key";
const ENDED = ["succeeded", "failed", "cancelled", "expired"];
const FILTERS = ["q", "status", "repo", "profile", "label", "mine"];
// What is shown of what may be long.
const EVENTS_MOST = 1000, DIFF_LINES_MOST = 4000;

const $ = (id) => document.getElementById(id);
const short = (id) => id.slice(0, 8);

// An element with texts and elements in it.
function make(name, attributes = {}, ...inner) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) made.setAttribute(key, value);
  made.append(...inner.filter((one) => one != null));
  return made;
}

// Only the web is linked to; anything else is text.
function link(url, text = url) {
  if (!/^https?:\/\//.test(url)) return document.createTextNode(text);
  return make("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, text);
}

// ── the server ────────────────────────────────────────────────────────────

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.error || `the server answered ${status}`);
    this.status = status;
    this.field = problem.field;
  }
}

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function refusal(answer) {
  let problem = {};
  try { problem = await answer.json(); } catch { /* it said nothing that can be read */ }
  return new Refused(answer.status, problem);
}

async function ask(path, options = {}) {
  const sent = { "content-type": "application/json", accept: "application/json", ...options.headers };
  const answer = await fetch(path, { ...options, headers: headers(sent), cache: "no-store" });
  if (!answer.ok) throw await refusal(answer);
  const told = await answer.json();
  // Who asked may look at something else by now: what comes too late is not drawn.
  options.signal?.throwIfAborted();
  return told;
}

const post = (path, body, more) => ask(path, { method: "POST", body: JSON.stringify(body), headers: more });

// Calls `hear(type, data)` for each event, and comes again where it left off until `signal` ends it.
async function listen(path, signal, hear, connected = () => {}) {
  let last = "", pause = 1000;
  while (!signal.aborted) {
    try {
      const sent = headers({ accept: "text/event-stream", ...(last && { "last-event-id": last }) });
      const answer = await fetch(path, { headers: sent, signal, cache: "no-store" });
      if (!answer.ok) throw await refusal(answer);
      connected(true);
      pause = 1000;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const fields = {};
          for (const line of block.split("\n")) {
            const at = line.indexOf(":");
            if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).trimStart();
          }
          if (fields.id) last = fields.id;
          if (fields.data && hear(fields.event || "message", JSON.parse(fields.data)) === "enough") return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status < 500) throw error;
    }
    connected(false);
    await new Promise((wake) => setTimeout(wake, pause));
    pause = Math.min(pause * 2, 15000);
  }
}

// ── what is shown ─────────────────────────────────────────────────────────

let leaving = new AbortController();
// The job that is shown; what its buttons do, they do to this one.
let current = null;

function complain(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) return wantKey(sessionStorage.getItem(KEY) ? "The server does not know this key, or its time is over." : "");
  // Whatever was to be shown is not there: the list can be asked for otherwise.
  if ($("key").hidden && $("list").hidden && $("job").hidden) $("list").hidden = false;
  $("alert").textContent = error.message;
  $("alert").hidden = false;
  const field = error.field && document.getElementById(error.field);
  if (field && field.offsetParent) field.focus();
}

const guarded = (work) => (...given) => work(...given).catch(complain);

function quiet() {
  $("alert").hidden = true;
}

function wantKey(why) {
  leaving.abort();
  sessionStorage.removeItem(KEY);
  for (const id of ["list", "job", "leave"]) $(id).hidden = true;
  // What the key let one see goes with it.
  for (const id of ["facts", "events", "job-title", "job-status", "task-text", "output-text", "diff-text"]) $(id).replaceChildren();
  for (const id of ["jobs", "pods"]) $(id).tBodies[0].replaceChildren();
  $("fleet").textContent = $("live").textContent = "";
  delete document.body.dataset.scope;
  $("alert").hidden = !why;
  $("alert").textContent = why;
  $("key").hidden = false;
  $("key-text").focus();
}

function show(id, title) {
  for (const other of ["key", "list", "job"]) $(other).hidden = other !== id;
  $("leave").hidden = !sessionStorage.getItem(KEY);
  document.title = title;
}

function age(time) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${seconds} s`;
}

function state(job) {
  const isUnpublished = job.status === "succeeded" && job.error;
  const text = isUnpublished ? "succeeded, not published" : job.status;
  return make("span", { class: `state ${isUnpublished ? "unpublished" : job.status}` }, text);
}

const firstLine = (text) => text.trim().split("\n")[0].slice(0, 300) || "(empty)";

// ── the list ──────────────────────────────────────────────────────────────

function row(job) {
  const open = make("a", { href: `/?job=${job.id}`, "data-inside": "" }, firstLine(job.task));
  const repo = job.repo_url ? job.repo_url.replace(/^https?:\/\//, "") : "";
  const result = make("td");
  if (job.pr_url) result.append(link(job.pr_url, "pull request"));
  else if (job.pushed && job.branch) result.append(job.branch);
  else if (job.has_kept_work) result.append("work kept");
  if (job.error) result.append(make("small", {}, firstLine(job.error)));
  const where = job.pod_name && job.status === "running" ? `on ${job.pod_name}` : "";
  return make("tr", {},
    make("td", {}, state(job), where ? make("small", {}, where) : null),
    make("td", {}, open, make("small", {}, `${short(job.id)} · ${job.profile}`)),
    make("td", {}, repo), result, make("td", {}, age(job.created_at)));
}

async function drawJobs(query, signal) {
  const asked = new URLSearchParams([...query].filter(([name, value]) => value && (FILTERS.includes(name) || name === "after")));
  asked.set("view", "summary");
  asked.set("limit", "50");
  const answer = await ask(`/jobs?${asked}`, { signal });
  const focused = document.activeElement?.getAttribute("href");
  $("jobs").tBodies[0].replaceChildren(...answer.jobs.map(row));
  // Whoever walks through the list by keyboard stays where he is.
  if (focused?.startsWith("/?job=")) $("jobs").querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  $("none").hidden = answer.jobs.length > 0;
  $("older").hidden = !answer.next;
  if (answer.next) {
    const older = new URLSearchParams(query);
    older.set("after", answer.next);
    $("older").href = `/?${older}`;
  }
}

async function drawFleet(signal) {
  const status = await ask("/status", { signal });
  // A key that may only read is shown no buttons that would be refused.
  document.body.dataset.scope = status.scope || "admin";
  const pods = status.pods?.length ? status.pods : [];
  const [slots, running] = pods.reduce(([s, r], pod) => [s + pod.slots, r + pod.running], [0, 0]);
  const queued = status.queued == null ? "an unknown number" : status.queued;
  $("fleet").textContent = `${running} of ${slots} slots in use, ${queued} queued`;
  $("pods").tBodies[0].replaceChildren(...pods.map((pod) => {
    const word = pod.draining ? "draining" : pod.unwell.length ? "unwell" : "ok";
    return make("tr", {}, make("td", {}, make("span", { class: `state ${word}` }, word)), make("td", {}, pod.name),
      make("td", {}, `${pod.running} of ${pod.slots}`), make("td", {}, pod.version), make("td", {}, pod.unwell.join("; ")));
  }));
}

let profilesAreKnown = false;

async function drawProfiles(signal) {
  if (profilesAreKnown) return;
  const answer = await ask("/profiles", { signal });
  profilesAreKnown = true;
  for (const profile of answer.profiles) {
    const text = profile.description ? `${profile.name}: ${profile.description}`.slice(0, 80) : profile.name;
    $("profile").append(make("option", { value: profile.name }, text));
    $("of-profile").append(make("option", {}, profile.name));
  }
}

async function showList(query, signal) {
  await drawProfiles(signal);
  for (const name of FILTERS) {
    const field = $("filters").elements[name];
    if (field.type === "checkbox") field.checked = query.get(name) === "true";
    else field.value = query.get(name) || "";
  }
  // On a phone they would fill the screen.
  $("filter-box").open = !matchMedia("(max-width: 42rem)").matches || FILTERS.some((name) => query.get(name));
  await Promise.all([drawJobs(query, signal), drawFleet(signal)]);
  show("list", "Agenticore");
  // However many changes come, it is drawn at most each half second.
  let timer = null;
  const again = () => {
    timer ??= setTimeout(guarded(async () => {
      timer = null;
      if (!signal.aborted) await Promise.all([drawJobs(query, signal), drawFleet(signal)]);
    }), 500);
  };
  const ages = setInterval(again, 15000);
  signal.addEventListener("abort", () => { clearInterval(ages); clearTimeout(timer); });
  await listen("/events", signal, again, connection);
}

function connection(isThere) {
  $("live").textContent = isThere ? "live" : "connecting again …";
}

// ── one job ───────────────────────────────────────────────────────────────

function fact(name, ...value) {
  return value.length && value[0] != null && value[0] !== "" ? [make("dt", {}, name), make("dd", {}, ...value)] : [];
}

function drawJob(job) {
  const hasEnded = ENDED.includes(job.status);
  $("job-title").textContent = firstLine(job.task);
  if ($("job-status").textContent !== state(job).textContent) $("job-status").replaceChildren(state(job));
  $("cancel").hidden = hasEnded;
  $("retry").hidden = !hasEnded || job.purpose === "worktree";
  $("resume").hidden = !hasEnded || !job.session_id || job.purpose !== "task";
  $("task-whole").hidden = job.task.trim() === firstLine(job.task);
  $("task-text").textContent = job.task;
  $("output").hidden = !job.output;
  $("output-text").textContent = job.output || "";
  const cost = job.cost_usd == null ? null : `${job.cost_usd.toFixed(4)} US$, ${job.turns ?? "?"} turns`;
  const labels = Object.entries(job.labels || {}).map(([name, value]) => `${name}=${value}`).join(", ");
  const inside = (id) => make("a", { href: `/?job=${id}`, "data-inside": "" }, short(id));
  const place = job.worktree_path && `in ${job.worktree_path}${job.worktree_on ? ` on ${job.worktree_on}` : ""}`;
  const work = job.pushed ? null : [place, job.kept?.fetch, job.kept?.lacks && `not saved: ${job.kept.lacks}`].filter(Boolean).join("\n");
  const told = (job.webhooks || []).map((one) => `${one.url}: ${one.event}, ${one.state}${one.last ? ` (${one.last})` : ""}`);
  $("facts").replaceChildren(
    ...fact("Id", job.id),
    ...fact("Waits for", job.waiting_for),
    ...fact("In the line", job.jobs_ahead == null ? null : `${job.jobs_ahead} before it`),
    ...fact("Pull request", ...(job.pr_url ? [link(job.pr_url)] : [])),
    ...fact("Branch", job.branch ? `${job.branch}, ${job.pushed ? "pushed" : "not pushed"}` : null),
    ...fact("Work", work),
    ...fact("Repository", ...(job.repo_url ? [link(job.repo_url)] : [])),
    ...fact("Error", job.error),
    ...fact("Look at this first", job.caution),
    ...fact("Note", job.note),
    ...fact("Stays because", job.kept_because),
    ...fact("Cost", cost),
    ...fact("Profile", [job.profile, job.model, job.max_turns && `${job.max_turns} turns`, job.timeout && `${job.timeout} s`].filter(Boolean).join(", ")),
    ...fact("Pod", job.pod_name ? `${job.pod_name}, attempt ${job.attempt}` : null),
    ...fact("Submitted", `${new Date(job.created_at).toLocaleString()}${job.submitted_by ? ` by ${job.submitted_by}` : ""}`),
    ...fact("Ended", job.ended_at ? `${new Date(job.ended_at).toLocaleString()}${job.cancelled_by ? `, cancelled by ${job.cancelled_by}` : ""}` : null),
    ...fact("Labels", labels),
    ...fact("Goes on from", ...(job.resumed_from ? [inside(job.resumed_from)] : [])),
    ...fact("Retry of", ...(job.retry_of ? [inside(job.retry_of)] : [])),
    ...fact("Retried as", ...(job.retried_as ? [inside(job.retried_as)] : [])),
    ...fact("Told to", told.join("\n")),
  );
  return hasEnded;
}

async function drawDiff(id, signal) {
  let found;
  try { found = await ask(`/jobs/${id}/diff`, { signal }); } catch (error) {
    if (error.status !== 404) throw error;
    $("diff").hidden = true;
    return;
  }
  const lines = found.diff.split("\n");
  const kind = (line) => /^(diff|\+\+\+|---) /.test(line) ? "file" : line[0] === "+" ? "plus" : line[0] === "-" ? "minus" : null;
  $("diff-text").replaceChildren(...lines.slice(0, DIFF_LINES_MOST).map((line) => make("span", { class: kind(line) }, line)));
  const summary = found.summary.trim().split("\n").pop().trim();
  const isCut = found.cut || lines.length > DIFF_LINES_MOST;
  const lacks = found.lacks?.length ? `. It lacks ${found.lacks.join(", ")}` : "";
  $("diff-note").textContent = (isCut ? `${summary}. Not all of it is shown: agenticore diff ${short(id)}` : summary) + lacks;
  $("diff").hidden = false;
}

function drawEvent(event) {
  const time = make("time", { datetime: event.time }, new Date(event.time).toLocaleTimeString());
  const long = event.text.length > 400 || event.text.split("\n").length > 6;
  const what = event.tool ? `${event.kind.replaceAll("_", " ")}: ${event.tool}` : event.kind.replaceAll("_", " ");
  const body = long
    ? make("details", {}, make("summary", {}, firstLine(event.text)), make("pre", { tabindex: "0" }, event.text))
    : make("p", {}, event.text);
  $("events").append(make("li", {}, time, make("strong", {}, what), event.text ? body : null));
  while ($("events").childElementCount > EVENTS_MOST) {
    $("events").firstElementChild.remove();
    $("events-note").hidden = false;
  }
}

async function showJob(id, signal) {
  $("list").hidden = $("job").hidden = true;
  $("events").replaceChildren();
  $("diff").hidden = $("events-note").hidden = true;
  const { job } = await ask(`/jobs/${encodeURIComponent(id)}`, { signal });
  current = job.id;
  $("events-note").textContent = `Earlier events: agenticore logs ${short(job.id)}`;
  let drawing = null;
  // What was comes all at once: it is drawn once.
  const redraw = () => {
    drawing ??= setTimeout(guarded(async () => {
      drawing = null;
      if (signal.aborted) return;
      if (drawJob((await ask(`/jobs/${job.id}`, { signal })).job) && $("diff").hidden) await drawDiff(job.id, signal);
    }), 300);
  };
  const hadEnded = drawJob(job);
  if (hadEnded) await drawDiff(job.id, signal);
  show("job", `${firstLine(job.task).slice(0, 60)} · Agenticore`);
  $("main").focus();
  drawFleet(signal).catch(complain);
  const marks = ["claimed", "agent_started", "agent_ended", "pushed", "pr_opened", "handed_back", "worker_lost"];
  await listen(`/jobs/${job.id}/events`, signal, (type, data) => {
    if (type === "end") {
      if (!hadEnded) redraw();
      $("live").textContent = "ended";
      return "enough";
    }
    drawEvent(data);
    if (!hadEnded && marks.includes(data.kind)) redraw();
  }, connection);
}

// ── from one to the other ─────────────────────────────────────────────────

const draw = guarded(async () => {
  leaving.abort();
  leaving = new AbortController();
  current = null;
  quiet();
  const query = new URLSearchParams(location.search);
  await (query.get("job") ? showJob(query.get("job"), leaving.signal) : showList(query, leaving.signal));
});

function go(url) {
  history.pushState(null, "", url);
  draw();
}

document.addEventListener("click", (event) => {
  const found = event.target.closest("a[data-inside], #home, #back, #older, #filters a");
  if (!found || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(found.href);
});
addEventListener("popstate", draw);

// While it works the button waits: twice pressed is once done.
function onSubmit(id, work) {
  $(id).addEventListener("submit", guarded(async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button[type=submit]");
    if (button?.disabled) return;
    if (button) button.disabled = true;
    quiet();
    try { await work(new FormData(event.target), event.target); } finally { if (button) button.disabled = false; }
  }));
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The same for what is in the form until it was taken: sent twice it is one job.
let sending = { text: "", key: "" };

async function submitOnce(path, body) {
  const text = path + JSON.stringify(body);
  if (sending.text !== text) sending = { text, key: newKey() };
  const answer = await post(path, body, { "idempotency-key": sending.key });
  sending = { text: "", key: "" };
  go(`/?job=${answer.job.id}`);
}

onSubmit("key", async (given, form) => {
  sessionStorage.setItem(KEY, given.get("key").trim());
  form.reset();
  await draw();
});

onSubmit("filters", async (given) => {
  const query = new URLSearchParams([...given].filter(([, value]) => value));
  go(query.size ? `/?${query}` : "/");
});

onSubmit("submit", async (given, form) => {
  const body = Object.fromEntries([...given].filter(([name, value]) => value && name !== "labels"));
  const labels = given.get("labels").split(",").map((one) => one.trim()).filter(Boolean);
  if (labels.length) body.labels = Object.fromEntries(labels.map((one) => {
    const at = one.indexOf("=");
    if (at < 1) throw new Refused(400, { detail: `The label "${one}" must be NAME=VALUE`, field: "labels" });
    return [one.slice(0, at).trim(), one.slice(at + 1).trim()];
  }));
  await submitOnce("/jobs", body);
  form.reset();
  $("new").open = false;
});

onSubmit("resume", async (given, form) => {
  await submitOnce(`/jobs/${current}/resume`, { task: given.get("task") });
  form.reset();
});

$("retry").addEventListener("click", guarded(() => submitOnce(`/jobs/${current}/retry`, {})));
$("cancel").addEventListener("click", () => $("ask").showModal());
$("ask").addEventListener("close", guarded(async () => {
  const answer = $("ask").returnValue;
  $("ask").returnValue = "";
  if (answer !== "yes") return $("cancel").focus();
  quiet();
  drawJob((await ask(`/jobs/${current}`, { method: "DELETE", signal: leaving.signal })).job);
}));
$("leave").addEventListener("click", () => wantKey(""));

// A key in the address is taken out of it: whoever copies the address does not hand on the key.
const address = new URL(location.href);
if (address.searchParams.has("api_key")) {
  sessionStorage.setItem(KEY, address.searchParams.get("api_key").trim());
  address.searchParams.delete("api_key");
  history.replaceState(null, "", address);
}

draw();

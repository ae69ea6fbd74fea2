// The captions page: joins sound, socket, captions and controls.

import { canShareTab, capture, CaptureError } from "./audio.js";
import { CaptionsView } from "./captions.js";
import { followSystem, onKeys, toggleLarge, toggleTheme } from "./display.js";
import { GlossaryPanel } from "./glossary.js";
import { keyHeaders } from "./key.js";
import { OverlayView } from "./overlay.js";
import { CaptionSocket } from "./socket.js";
import { Tooltip } from "./tooltip.js";
import { Transcript } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const overlay = query.get("overlay") === "1";
// The delay shown is the median of the newest captions.
const DELAYS = 7;
// The level meter is empty at this level and full at 0 dBFS.
const FLOOR_DBFS = -60;

const view = overlay
  ? new OverlayView(Math.min(8, Math.max(1, Number(query.get("lines")) || 2)), query.get("ground") ?? "")
  : new CaptionsView({ scroller: $("captions"), lines: $("lines"), open: $("open"), spoken: $("spoken"), jump: $("jump") });
const tooltip = new Tooltip($("tip"), $("captions"));
const glossary = new GlossaryPanel(
  { terms: $("terms"), state: $("glossary-state"), rejected: $("rejected"), rejectedList: $("rejected-list") },
  (add, remove) => session?.socket?.edit(add, remove),
);
const transcript = new Transcript();

let session = null; // {capture, socket, delays} while captions run
let baseS = 0; // time at which the running session begins on the page's clock

async function start() {
  session = { delays: [] };
  notice("");
  controls("starting");
  try {
    session.capture = await capture(sourceChosen(), { onBatch, onEnded: stop });
  } catch (error) {
    session = null;
    controls("idle");
    notice(error instanceof CaptureError ? error.message : `Sound cannot be captured: ${error.message}`);
    return;
  }
  session.socket = new CaptionSocket({ sampleRateHz: session.capture.sampleRateHz, start: startMessage, onEvent, onState });
  controls("running");
}

async function stop() {
  if (!session?.socket || session.stopping) return;
  session.stopping = true;
  controls("stopping");
  await session.capture.stop();
  await session.socket.stop();
}

function finished() {
  const { capture: sound, socket } = session;
  baseS += socket.backlog.capturedS;
  session = null;
  sound.stop();
  glossary.end();
  view.clearOpen();
  level(FLOOR_DBFS);
  $("delay").hidden = true;
  controls("idle");
}

function startMessage() {
  const name = $("server-glossary").value;
  const [task, target] = $("write").value.split(" ");
  const options = { threshold: $("threshold").value };
  if (target) Object.assign(options, { target_language: target, source_text: true });
  const message = { language: $("language").value, task, options };
  return { ...message, glossary: { ...(name && { name }), terms: glossary.begin() } };
}

function onBatch(samples, dbfs) {
  level(dbfs);
  session?.socket?.send(samples);
}

function onEvent(event) {
  const handler = {
    "session.started": () => glossary.show(event.glossary),
    "glossary.updated": () => glossary.show(event),
    partial: () => view.partial(event),
    final: () => finish(event),
    forgotten: () => view.clearOpen(),
    error: () => event.fatal || notice(event.message),
  }[event.type];
  if (event.type === "partial" || event.type === "final") measureDelay(event);
  handler?.();
}

function finish(event) {
  const shifted = { ...event, start_s: event.start_s + baseS, end_s: event.end_s + baseS };
  for (const list of ["words", "terms"]) shifted[list] = (event[list] ?? []).map(onPageClock);
  transcript.add(shifted);
  view.final(shifted);
  if (!event.text) return;
  $("welcome").hidden = true;
  $("copy").disabled = $("download").disabled = false;
}

function onPageClock(item) {
  const shift = (time) => (typeof time === "number" ? time + baseS : time);
  return { ...item, start_s: shift(item.start_s), end_s: shift(item.end_s) };
}

function measureDelay({ end_s }) {
  session.delays.push(session.socket.backlog.capturedS - end_s);
  if (session.delays.length > DELAYS) session.delays.shift();
  const sorted = session.delays.toSorted((a, b) => a - b);
  $("delay-value").textContent = `${sorted[Math.floor(sorted.length / 2)].toFixed(1)} s`;
  $("delay").hidden = false;
}

function onState(state, text) {
  $("state").dataset.state = state === "ended" ? "idle" : state === "connecting" ? "waiting" : state;
  $("state").firstElementChild.textContent = text;
  if (state === "failed") notice(text);
  if (state === "failed" || state === "ended") finished();
}

function controls(state) {
  const button = $("start");
  button.textContent = { idle: "Start", starting: "Starting…", running: "Stop", stopping: "Finishing…" }[state];
  button.disabled = state === "starting" || state === "stopping";
  button.toggleAttribute("data-running", state === "running");
  for (const id of ["sources", "server-glossary", "language", "write", "threshold"]) $(id).disabled = state !== "idle";
}

function notice(text) {
  if (overlay && text) view.partial({ committed: text, volatile: "", terms: [] });
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function level(dbfs) {
  const share = Math.max(0, Math.min(1, 1 - dbfs / FLOOR_DBFS));
  $("level").firstElementChild.style.transform = `scaleX(${share})`;
  $("level").setAttribute("aria-valuenow", Math.round(share * 100));
}

const sourceChosen = () => document.querySelector("input[name=source]:checked").value;

async function copy() {
  await navigator.clipboard.writeText(transcript.txt());
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
}

function download() {
  const format = $("format").value;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([transcript.as(format)], { type: "text/plain" }));
  link.download = `captions.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function showGlossary(open) {
  $("glossary").hidden = !open;
  $("toggle-glossary").setAttribute("aria-expanded", open);
}

function toggleRun() {
  if (!session) start();
  else stop();
}

function escape() {
  if (tooltip.shown) tooltip.hide();
  else if (document.activeElement === $("terms")) $("captions").focus();
  else return false;
}

async function loadInfo() {
  const response = await fetch(new URL("api/info", document.baseURI), { headers: keyHeaders });
  if (response.status === 401) notice("This server asks for an API key: open the page with #key=YOUR_KEY behind its address.");
  if (!response.ok) return;
  const info = await response.json();
  for (const [name, terms] of Object.entries(info.glossaries)) {
    $("server-glossary").append(new Option(`${name} (${terms.toLocaleString("en")} terms)`, name));
  }
  $("server-glossary").value = query.get("glossary") ?? info.default_glossary ?? "";
  $("language").replaceChildren(...info.languages.map(languageOption).sort(autoThenName));
  for (const code of info.target_languages) {
    $("write").append(new Option(`${languageNames.of(code)}, with what was said`, `translate ${code}`));
  }
}

const languageNames = new Intl.DisplayNames(["en"], { type: "language" });

function languageOption(code) {
  const text = code === "auto" ? "Detect automatically" : languageNames.of(code);
  return new Option(text, code, code === "en", code === "en");
}

const autoThenName = (a, b) => (b.value === "auto") - (a.value === "auto") || a.text.localeCompare(b.text);

$("start").addEventListener("click", toggleRun);
$("copy").addEventListener("click", copy);
$("download").addEventListener("click", download);
$("toggle-theme").addEventListener("click", ({ currentTarget }) => toggleTheme(currentTarget));
$("toggle-large").addEventListener("click", ({ currentTarget }) => toggleLarge(currentTarget));
$("toggle-glossary").addEventListener("click", () => showGlossary($("glossary").hidden));
$("show-help").addEventListener("click", () => $("help").showModal());
onKeys(
  {
    s: toggleRun,
    g: () => (showGlossary(true), $("terms").focus()),
    l: () => toggleLarge($("toggle-large")),
    d: () => toggleTheme($("toggle-theme")),
    c: () => $("copy").disabled || copy(),
    "?": () => $("help").showModal(),
    Escape: escape,
  },
  () => $("single-keys").checked && !$("help").open,
);
followSystem($("toggle-theme"));
if (matchMedia("(max-width: 60rem)").matches) showGlossary(false);
if (!canShareTab()) document.querySelectorAll("input[value=tab], input[value=both]").forEach((input) => input.closest("label").remove());
loadInfo().finally(() => overlay && start());

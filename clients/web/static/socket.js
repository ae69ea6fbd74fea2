// A caption session: sends audio, gives events, reconnects by itself and goes on where it broke off.

import { Backlog } from "./backlog.js";
import { keySubprotocols } from "./key.js";

// As in the Python client: going away, broken, internal error, restart, try again later.
const RETRY_CODES = new Set([1001, 1006, 1011, 1012, 1013]);
const ATTEMPTS = 10;
const FIRST_DELAY_S = 0.5;
const MAX_DELAY_S = 20;
// Bytes the browser may hold back for a slow network before we hold back ourselves.
const BUFFERED_BYTES = 256 * 1024;
const END_TIMEOUT_MS = 15000;
// A long glossary that is new to the server takes it a while, without a word.
const START_TIMEOUT_MS = 120000;
// A network can die without the browser's telling for minutes; statistics are due every 5 s.
const SILENCE_MS = 15000;
// Not 1000, after which the server would not keep the session.
const GIVEN_UP = 4000;

export const socketUrl = () => {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = url.hash = "";
  return url.href;
};

export class CaptionSocket {
  /**
   * @param {object} options
   * @param {number} options.sampleRateHz rate of the audio
   * @param {function(): object} options.start start message without its audio, asked for at each connection
   * @param {function(object): void} options.onEvent gets the server's events, times shifted over reconnects
   * @param {function(string, string): void} options.onState gets connecting, live, waiting, failed or ended, with a text
   */
  constructor({ sampleRateHz, start, onEvent, onState }) {
    Object.assign(this, { sampleRateHz, start, onEvent, onState });
    this.backlog = new Backlog(sampleRateHz);
    this.offsetS = 0;
    this.resume = null; // {session_id, token, origin, lastSeq} of a session that outlives its connection
    this.edits = []; // glossary edits since the start message
    this.attempt = 0;
    this.started = false;
    this.stopping = false;
    this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
    this.connect();
  }

  send(samples) {
    this.backlog.push(samples);
    this.pump();
  }

  /** Change the glossary in force; what cannot be sent now follows when the session goes on. */
  edit(add, remove) {
    const message = { type: "glossary.edit", add, remove };
    this.edits.push(message);
    if (this.started) this.tell(message);
  }

  tell(message) {
    this.socket.send(JSON.stringify(message));
  }

  /** Ask for the last captions, over a connection to come if there is none; resolves when they have come. */
  async stop() {
    this.stopping = true;
    this.limitEnd();
    if (this.started) this.finish();
    else if (!this.resume && this.backlog.empty) this.leave("ended", "Ready");
    else this.hurry();
    await this.ended;
  }

  /** Allow so long for a connection to come back, and again for the last captions to come over it. */
  limitEnd() {
    clearTimeout(this.ending);
    if (this.stopping) this.ending = setTimeout(() => this.leave("failed", "The last captions did not arrive"), END_TIMEOUT_MS);
  }

  /** Try now, and often: later tries would come too late for the end. */
  hurry() {
    this.attempt = 0;
    if (this.waiting) this.connect();
  }

  connect() {
    clearTimeout(this.waiting);
    this.waiting = undefined;
    this.expectWithin(SILENCE_MS);
    this.onState("connecting", "Connecting…");
    this.socket = new WebSocket(socketUrl(), keySubprotocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.open();
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = (close) => this.closed(close);
  }

  open() {
    this.onState("connecting", "Preparing…"); // a long glossary takes the server a moment
    this.expectWithin(this.resume ? SILENCE_MS : START_TIMEOUT_MS);
    if (this.resume) {
      const { session_id, token, origin, lastSeq } = this.resume;
      this.tell({ type: "resume", session_id, token, last_seq: lastSeq, first_frame: this.backlog.start - origin });
      return;
    }
    const audio = { encoding: "pcm_s16le", sample_rate_hz: this.sampleRateHz, channels: 1 };
    this.edits = []; // the start message carries them
    this.tell({ type: "start", audio, resumable: true, ...this.start() });
  }

  receive(event) {
    this.expectWithin(SILENCE_MS);
    // What is replayed behind session.resumed has lower numbers than it.
    if (this.resume && event.type !== "session.resumed") this.resume.lastSeq = Math.max(this.resume.lastSeq, event.seq);
    for (const name of ["start_s", "end_s", "time_s", "audio_time_s"]) this.shift(event, name);
    for (const item of [...(event.words ?? []), ...(Array.isArray(event.terms) ? event.terms : [])]) {
      for (const name of ["start_s", "end_s"]) this.shift(item, name);
    }
    if (event.type === "session.started") this.begin(event);
    else if (event.type === "session.resumed") this.goOn(event);
    else if (event.type === "final") this.backlog.finishUntil(event.end_s);
    else if (event.type === "error") this.complain(event);
    this.onEvent(event);
    if (event.type === "session.ended") this.leave("ended", "Ready");
  }

  shift(item, name) {
    if (typeof item[name] === "number") item[name] += this.offsetS;
  }

  begin({ seq, session_id, resume }) {
    this.offsetS = this.backlog.rewind();
    this.resume = resume ? { session_id, token: resume.token, origin: this.backlog.start, lastSeq: seq } : null;
    this.live(0);
  }

  goOn({ next_frame, edits }) {
    this.backlog.skipTo(this.resume.origin + next_frame);
    this.live(edits);
  }

  /** The session is open; the server has `edits` of the glossary edits. */
  live(edits) {
    this.started = true;
    this.connectedAt = performance.now();
    for (const message of this.edits.slice(edits)) this.tell(message);
    const lostS = this.backlog.takeLostS();
    this.onState("live", lostS ? `Live, ${lostS.toFixed(1)} s of sound were lost` : "Live");
    this.pump();
    this.limitEnd();
    if (this.stopping) this.finish();
  }

  /** Take the connection for dead unless something comes over it. */
  expectWithin(ms) {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => {
      this.abandon(GIVEN_UP);
      this.closed({ code: 1006, reason: "" });
    }, ms);
  }

  /** Close the connection, and hear no more of it: on a dead one that would take long. */
  abandon(code) {
    clearTimeout(this.watchdog);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close(code);
  }

  complain(event) {
    this.retryAfterS = event.retry_after_s ?? 0;
    this.fatal = event.fatal ? event.message : undefined;
    this.forgotten = event.code === "unknown_session";
  }

  /** Send what there is, as long as the network takes it. */
  pump() {
    clearTimeout(this.pumping);
    while (this.started && this.socket.readyState === WebSocket.OPEN) {
      if (this.socket.bufferedAmount > BUFFERED_BYTES) {
        this.pumping = setTimeout(() => this.pump(), 100);
        return;
      }
      const batch = this.backlog.shift();
      if (!batch) break;
      this.socket.send(batch);
    }
    if (this.finishing) this.finish();
  }

  /** Say stop behind the last audio. */
  finish() {
    this.finishing = this.backlog.unsent > 0;
    if (this.finishing) return;
    if (this.socket.readyState === WebSocket.OPEN) this.tell({ type: "stop" });
  }

  closed({ code, reason }) {
    clearTimeout(this.watchdog);
    if (this.started) this.limitEnd();
    if (this.started && performance.now() - this.connectedAt > MAX_DELAY_S * 1000) this.attempt = 0;
    this.started = this.finishing = false;
    if (this.forgotten) {
      this.startAnew();
      return;
    }
    this.attempt += 1;
    if (!RETRY_CODES.has(code) || this.attempt > ATTEMPTS) {
      this.leave("failed", this.fatal || reason || (code === 1006 ? "The server cannot be reached" : `Closed by the server (${code})`));
      return;
    }
    this.waitAndConnect(this.fatal || (code === 1006 ? "Connection lost" : reason || "Server is restarting"));
  }

  /** The server does not have the session any more: a new one hears what has no final yet. */
  startAnew() {
    this.forgotten = false;
    this.resume = this.fatal = undefined;
    this.onEvent({ type: "forgotten" });
    this.connect();
  }

  waitAndConnect(why) {
    // Jitter, or all pages would come back to a restarted server at the same moment.
    const backoffS = Math.min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (this.attempt - 1)) * (0.5 + Math.random() / 2);
    const delayS = (this.retryAfterS || 0) + backoffS;
    this.retryAfterS = 0;
    this.fatal = undefined;
    this.onState("waiting", `${why}, next try in ${Math.ceil(delayS)} s`);
    this.waiting = setTimeout(() => this.connect(), delayS * 1000);
  }

  leave(state, text) {
    if (this.left) return;
    this.left = true;
    this.started = false;
    clearTimeout(this.waiting);
    clearTimeout(this.pumping);
    clearTimeout(this.ending);
    this.abandon(1000);
    this.onState(state, text);
    this.resolveEnded();
  }
}

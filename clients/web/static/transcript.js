// The finished captions as text, SRT or WebVTT.

// Two lines of at most 42 characters are what viewers can read.
const LINE_CHARACTERS = 42;
const CUE_CHARACTERS = 2 * LINE_CHARACTERS;

export class Transcript {
  constructor() {
    this.finals = [];
  }

  get empty() {
    return this.finals.length === 0;
  }

  add(final) {
    if (final.text) this.finals.push(final);
  }

  as(format) {
    return { txt: () => this.txt(), srt: () => this.srt(), vtt: () => this.vtt() }[format]();
  }

  txt() {
    return this.finals.map(({ text }) => `${text}\n`).join("");
  }

  srt() {
    return this.cues()
      .map((cue, index) => `${index + 1}\n${stamp(cue.startS, ",")} --> ${stamp(cue.endS, ",")}\n${cue.text}\n`)
      .join("\n");
  }

  vtt() {
    const body = this.cues().map((cue) => `${stamp(cue.startS, ".")} --> ${stamp(cue.endS, ".")}\n${escaped(cue.text)}\n`);
    return ["WEBVTT\n", ...body].join("\n");
  }

  cues() {
    return this.finals.flatMap(cuesOf);
  }
}

function cuesOf({ text, words, start_s, end_s }) {
  if (!words?.length) return [{ startS: start_s, endS: end_s, text: wrap(text) }];
  const cues = [];
  for (const { word, start_s: startS, end_s: endS } of words) {
    const cue = cues.at(-1);
    const joined = cue && `${cue.text} ${word.trim()}`;
    if (cue && joined.length <= CUE_CHARACTERS) Object.assign(cue, { text: joined, endS });
    else cues.push({ startS, endS, text: word.trim() });
  }
  return cues.map((cue) => ({ ...cue, text: wrap(cue.text) }));
}

/** Break a long cue at the space nearest to its middle. */
function wrap(text) {
  if (text.length <= LINE_CHARACTERS) return text;
  const spaces = [...text.matchAll(/ /g)].map(({ index }) => index);
  if (spaces.length === 0) return text;
  const middle = spaces.reduce((best, at) => (Math.abs(at - text.length / 2) < Math.abs(best - text.length / 2) ? at : best));
  return `${text.slice(0, middle)}\n${text.slice(middle + 1)}`;
}

function stamp(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  return `${two(ms / 3600000)}:${two((ms / 60000) % 60)}:${two((ms / 1000) % 60)}${point}${String(ms % 1000).padStart(3, "0")}`;
}

const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

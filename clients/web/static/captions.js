// Captions on the page: finished lines, the open line, and what a screen reader hears.

import { clock, pieces, termElement } from "./terms.js";

// A screen reader needs the newest lines only; the visible list keeps all.
const SPOKEN_LINES = 20;
// Closer to the end than this counts as following along.
const FOLLOW_PX = 120;

export class CaptionsView {
  constructor({ scroller, lines, open, spoken, jump }) {
    Object.assign(this, { scroller, lines, open, spoken, jump });
    this.following = true;
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    jump.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.keepUp()).observe(scroller);
  }

  partial({ committed, volatile, terms, source }) {
    this.open.replaceChildren(...openLine(committed, volatile, terms), ...sourceLine(source));
    this.keepUp();
  }

  final({ start_s, text, terms, source }) {
    this.clearOpen();
    if (!text) return;
    this.lines.append(finishedLine(start_s, text, terms, source));
    this.speak(text);
    this.keepUp();
  }

  clearOpen() {
    this.open.replaceChildren();
  }

  speak(text) {
    const line = document.createElement("p");
    line.textContent = text;
    this.spoken.append(line);
    while (this.spoken.childElementCount > SPOKEN_LINES) this.spoken.firstElementChild.remove();
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight < FOLLOW_PX;
    this.jump.hidden = this.following;
  }

  follow() {
    this.following = true;
    this.jump.hidden = true;
    this.keepUp();
  }

  keepUp() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

/** Nodes of an unfinished caption: its committed part plain, the rest marked volatile. */
export function openLine(committed, volatile, terms) {
  const nodes = [];
  for (const { text, start, term } of pieces(committed + volatile, terms)) {
    const settled = Math.max(0, committed.length - start);
    if (term) nodes.push(mark(termElement(text, term, { focusable: false }), settled < text.length));
    else nodes.push(text.slice(0, settled), mark(span(text.slice(settled)), true));
  }
  return nodes;
}

/** What was said, beneath its translation; no node where there is none. */
export function sourceLine(source) {
  if (!source?.text) return [];
  const element = span(source.text);
  element.className = "source";
  element.lang = source.language;
  return [element];
}

function finishedLine(startS, text, terms, source) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clock(startS);
  const line = document.createElement("p");
  line.append(...pieces(text, terms).map((piece) => (piece.term ? termElement(piece.text, piece.term, { focusable: true }) : piece.text)), ...sourceLine(source));
  item.append(time, line);
  return item;
}

function span(text) {
  const element = document.createElement("span");
  element.textContent = text;
  return element;
}

function mark(element, volatile) {
  if (volatile) element.classList.add("volatile");
  return element;
}

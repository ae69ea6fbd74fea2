// ?overlay=1: the newest lines of captions on a transparent or plain ground, for OBS and other mixers.

import { openLine } from "./captions.js";

// Captions leave the picture when nobody has spoken for this long.
const IDLE_MS = 8000;

/** Same methods as CaptionsView. Each segment begins a line, so that old text never moves sideways. */
export class OverlayView {
  constructor(lines, ground) {
    this.count = lines;
    this.element = document.createElement("div");
    this.element.className = "overlay";
    this.element.style.setProperty("--lines", lines);
    document.documentElement.dataset.overlay = "";
    document.documentElement.style.background = ground;
    document.body.append(this.element);
    this.openParagraph = null;
  }

  partial({ committed, volatile, terms }) {
    this.write(openLine(committed, volatile, terms));
  }

  final({ text, terms }) {
    if (text) this.write(openLine(text, "", terms));
    this.openParagraph = null;
  }

  clearOpen() {
    this.openParagraph?.remove();
    this.openParagraph = null;
  }

  write(nodes) {
    this.openParagraph ??= this.element.appendChild(document.createElement("p"));
    const line = document.createElement("span");
    line.className = "line";
    line.append(...nodes);
    this.openParagraph.replaceChildren(line);
    while (this.element.childElementCount > this.count) this.element.firstElementChild.remove();
    this.wake();
  }

  wake() {
    delete this.element.dataset.idle;
    clearTimeout(this.idling);
    this.idling = setTimeout(() => (this.element.dataset.idle = ""), IDLE_MS);
  }
}

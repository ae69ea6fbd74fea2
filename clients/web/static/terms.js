// Glossary terms inside caption text.

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Cut text into pieces {text, start, term}, where term is the hit the piece shows, or null. */
export function pieces(text, terms) {
  const hits = new Map(terms.filter(({ term }) => term).map((hit) => [hit.term.toLowerCase(), hit]));
  if (hits.size === 0) return [{ text, start: 0, term: null }];
  // The longest first, so that "New York" wins over "New".
  const sorted = [...hits.keys()].sort((a, b) => b.length - a.length).map(escape);
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(?:${sorted.join("|")})(?![\\p{L}\\p{N}])`, "giu");
  const result = [];
  let position = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > position) result.push({ text: text.slice(position, match.index), start: position, term: null });
    result.push({ text: match[0], start: match.index, term: hits.get(match[0].toLowerCase()) ?? null });
    position = match.index + match[0].length;
  }
  if (position < text.length) result.push({ text: text.slice(position), start: position, term: null });
  return result;
}

/** "1:05.3" */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

/** What there is to say about a hit, for tooltips and screen readers. */
export function describe(hit) {
  const when = typeof hit.start_s === "number" ? `, said at ${clock(hit.start_s)}` : "";
  return `probability ${hit.probability.toFixed(2)}${when}`;
}

/**
 * An element for a term in a caption.
 * In finished lines it is a button, so that the keyboard and a finger reach its details; the open
 * line is drawn anew twice a second, where a focused button would vanish.
 */
export function termElement(text, hit, { focusable }) {
  const element = document.createElement(focusable ? "button" : "span");
  element.className = "term";
  element.textContent = text;
  element.dataset.term = hit.term;
  element.dataset.probability = hit.probability;
  element.dataset.details = describe(hit);
  if (focusable) {
    element.type = "button";
    element.setAttribute("aria-label", `${text}: glossary term, ${describe(hit)}`);
  }
  return element;
}

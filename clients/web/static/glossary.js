// The glossary box: one term a line; what changes in the box is edited in the running session.

// A pause in typing this long means the line is complete; leaving the box says so at once.
const PAUSE_MS = 1000;

export class GlossaryPanel {
  /**
   * @param {object} elements terms, state, rejected, rejectedList
   * @param {function(string[], string[]): void} onEdit gets terms to add and to remove
   */
  constructor({ terms, state, rejected, rejectedList }, onEdit) {
    Object.assign(this, { box: terms, state, rejected, rejectedList, onEdit });
    this.inForce = null; // Set of terms the session was given; null without a session
    terms.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.commit(), PAUSE_MS);
    });
    terms.addEventListener("change", () => this.commit());
  }

  get terms() {
    return [...new Set(this.box.value.split("\n").map((line) => line.trim()).filter(Boolean))];
  }

  /** Terms for a start message; from now on changes are edits. */
  begin() {
    this.inForce = new Set(this.terms);
    return [...this.inForce];
  }

  end() {
    clearTimeout(this.typing);
    this.inForce = null;
  }

  commit() {
    clearTimeout(this.typing);
    if (!this.inForce) return;
    const wanted = new Set(this.terms);
    const add = [...wanted].filter((term) => !this.inForce.has(term));
    const remove = [...this.inForce].filter((term) => !wanted.has(term));
    if (add.length + remove.length === 0) return;
    this.inForce = wanted;
    this.state.textContent = "updating…";
    this.onEdit(add, remove);
  }

  /** Show the server's answer, from session.started or glossary.updated. */
  show({ version, terms, rejected = [], rejected_count: count = rejected.length }) {
    this.state.textContent = `version ${version} · ${terms.toLocaleString("en")} ${terms === 1 ? "term" : "terms"}`;
    this.rejected.hidden = count === 0;
    const items = rejected.map(({ entry, reason }) => `${entry || "(blank)"}: ${reason}`);
    if (count > rejected.length) items.push(`and ${count - rejected.length} more`);
    this.rejectedList.replaceChildren(...items.map(listItem));
  }
}

function listItem(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

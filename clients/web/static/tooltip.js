// Details of a term on hover, on keyboard focus and on tap; Escape hides them.

const GAP_PX = 8;

export class Tooltip {
  constructor(element, area) {
    this.element = element;
    this.owner = null;
    area.addEventListener("pointerover", ({ target }) => this.enter(target));
    area.addEventListener("pointerout", ({ relatedTarget }) => this.leaveFor(relatedTarget));
    area.addEventListener("focusin", ({ target }) => this.enter(target));
    area.addEventListener("focusout", () => this.hide());
    area.addEventListener("click", ({ target }) => this.enter(target));
    area.addEventListener("scroll", () => this.hide(), { passive: true });
    // The pointer may rest on the details themselves.
    element.addEventListener("pointerleave", ({ relatedTarget }) => this.leaveFor(relatedTarget));
  }

  get shown() {
    return this.owner !== null;
  }

  enter(target) {
    const term = target.closest?.(".term");
    if (term && term !== this.owner) this.show(term);
  }

  leaveFor(target) {
    if (!this.shown || this.owner.contains(target) || this.element.contains(target)) return;
    if (document.activeElement !== this.owner) this.hide();
  }

  show(term) {
    this.hide();
    this.owner = term;
    const name = document.createElement("b");
    name.textContent = term.dataset.term;
    const gauge = document.createElement("span");
    gauge.className = "gauge";
    const bar = document.createElement("i");
    bar.style.transform = `scaleX(${term.dataset.probability})`;
    gauge.append(bar);
    this.element.replaceChildren(name, `: ${term.dataset.details}`, gauge);
    this.element.hidden = false;
    term.setAttribute("aria-describedby", this.element.id);
    this.place(term.getClientRects()[0]);
  }

  place(anchor) {
    const { width, height } = this.element.getBoundingClientRect();
    const left = Math.max(GAP_PX, Math.min(anchor.left, innerWidth - width - GAP_PX));
    const above = anchor.top - height - GAP_PX;
    this.element.style.left = `${left}px`;
    this.element.style.top = `${above > 0 ? above : anchor.bottom + GAP_PX}px`;
  }

  hide() {
    this.owner?.removeAttribute("aria-describedby");
    this.owner = null;
    this.element.hidden = true;
  }
}

// A section is made once; what stands in it is brought up to date when there is news.

class Section {
  constructor(id, title, said, wanted, parts, update = () => {}) {
    Object.assign(this, { id, title, wanted, parts, renew: update });
    this.said = el("p", { class: "say" });
    this.words = said;
    this.node = el(
      "section",
      { id, "aria-labelledby": `${id}-title` },
      el("h2", { id: `${id}-title` }, title),
      this.said,
      ...parts.map((part) => part.node ?? part),
    );
    this.link = el("a", { href: `#${id}` }, title);
  }

  update(page) {
    const wanted = Boolean(this.wanted(page));
    this.node.hidden = this.link.hidden = !wanted;
    if (!wanted) return;
    this.said.textContent = typeof this.words === "function" ? this.words(page) : this.words;
    this.said.hidden = !this.said.textContent;
    this.renew(page);
  }
}

// A section is created once; its content is updated when the study changes.

class Section {
  constructor({ id, title, intro, isShown = () => true, parts, update = () => {} }) {
    Object.assign(this, { intro, isShown, updateContent: update });
    this.introNode = el("p", { class: "intro" });
    this.node = el(
      "section",
      { id, "aria-labelledby": `${id}-title` },
      el("h2", { id: `${id}-title` }, title),
      this.introNode,
      ...parts.map((part) => part.node ?? part),
    );
    this.link = el("a", { href: `#${id}` }, title);
  }

  update(page) {
    const isShown = Boolean(this.isShown(page));
    this.node.hidden = this.link.hidden = !isShown;
    if (!isShown) return;
    this.introNode.textContent = typeof this.intro === "function" ? this.intro(page) : this.intro;
    this.introNode.hidden = !this.introNode.textContent;
    this.updateContent(page);
  }
}

// A table that is sorted by its heads, filtered by words and conditions, whose columns are chosen, and which makes its
// lines as they are scrolled to.

const CHUNK = 100;
const CONDITION = /^([a-z_0-9]+)(<=|>=|<|>|=)(-?[\d.]+)$/i;
const TESTS = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
};

// Every word must be in a row's words, every condition on a number hold: `hr gflops<5`.
function filterOf(text, columns) {
  const numbers = new Set(columns.filter((one) => one.digits !== null).map((one) => one.key));
  const tests = text
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => {
      const [, key, sign, value] = CONDITION.exec(word) ?? [];
      if (!numbers.has(key)) return (row) => row.words.includes(word);
      return (row) => row[key] !== null && TESTS[sign](row[key], Number(value));
    });
  return (row) => tests.every((test) => test(row));
}

// Numbers by size, words by letters; what is not known comes last, up or down.
function ordered(rows, key, down) {
  const sign = down ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [one[key], other[key]];
    const [no, none] = [a === null || a === "", b === null || b === ""];
    if (no || none) return no - none;
    return sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  });
}

class Table {
  constructor({ label, noun, hint, open, cell, changed = () => {} }) {
    Object.assign(this, { noun, open, cell, changed, rows: [], columns: [], chosen: null, sort: null, shown: [] });
    this.input = el("input", {
      type: "search",
      placeholder: hint,
      "aria-label": `Filter: ${label}`,
      input: () => this.filter(),
    });
    this.count = el("span", { class: "count", role: "status" });
    this.chooser = el("div");
    this.head = el("thead");
    this.body = el("tbody");
    const table = el("table", { "aria-label": label }, this.head, this.body);
    this.box = el(
      "div",
      { class: "scroll tall", tabindex: "0", role: "region", "aria-label": label, scroll: () => this.more() },
      table,
    );
    const choose = el("details", { class: "choose" }, el("summary", {}, "Columns"), this.chooser);
    choose.addEventListener("keydown", (event) => event.key === "Escape" && (choose.open = false));
    document.addEventListener("click", (event) => choose.contains(event.target) || (choose.open = false));
    this.node = el("div", {}, el("div", { class: "controls" }, this.input, this.count, choose), this.box);
  }

  // New rows, and perhaps new columns; what was sorted, filtered, chosen and scrolled to stays.
  update(rows, columns) {
    const [top, left] = [this.box.scrollTop, this.box.scrollLeft];
    const known = columns.map((one) => one.key).join();
    this.rows = rows;
    this.best = Object.fromEntries(
      columns
        .filter((one) => one.best)
        .map((one) => [one.key, Math.max(...rows.map((row) => row[one.key] ?? -Infinity))]),
    );
    this.box.classList.toggle(
      "wordy",
      rows.some((row) => String(row[columns[0].key]).length > 34),
    );
    if (known !== this.known) {
      this.known = known;
      this.columns = columns;
      this.chosen = new Set([...columns.filter((one) => one.shown).map((one) => one.key), ...(this.wanted ?? [])]);
      for (const key of this.unwanted ?? []) this.chosen.delete(key);
      this.choices();
    }
    this.filter(this.body.childElementCount);
    this.box.scrollTo(left, top);
  }

  choices() {
    [this.wanted, this.unwanted] = [this.wanted ?? new Set(), this.unwanted ?? new Set()];
    const change = (key, on) => {
      this.chosen[on ? "add" : "delete"](key);
      this.wanted[on ? "add" : "delete"](key);
      this.unwanted[on ? "delete" : "add"](key);
      this.draw();
    };
    this.chooser.replaceChildren(
      ...this.columns.slice(1).map((one) => {
        const box = el("input", { type: "checkbox", change: (event) => change(one.key, event.target.checked) });
        box.checked = this.chosen.has(one.key);
        return el("label", { title: one.about }, box, one.label);
      }),
    );
  }

  filter(least = CHUNK) {
    this.kept = this.rows.filter(filterOf(this.input.value, this.columns));
    const all = plural(this.rows.length, this.noun);
    this.count.textContent = this.kept.length === this.rows.length ? all : `${number(this.kept.length, 0)} of ${all}`;
    this.draw(least);
    this.changed(this.kept);
  }

  draw(least = CHUNK) {
    const columns = this.columns.filter((one) => this.chosen.has(one.key));
    this.shown = this.sort ? ordered(this.kept, this.sort.key, this.sort.down) : this.kept;
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.head.replaceChildren(el("tr", {}, ...columns.map((one) => this.headOf(one))));
    this.head.querySelector(`[data-key="${focused}"]`)?.focus();
    this.body.replaceChildren();
    this.drawing = columns;
    if (this.shown.length === 0) this.body.append(el("tr", {}, el("td", { colspan: columns.length }, "None.")));
    this.more(least);
  }

  headOf(one) {
    const sorted = this.sort?.key === one.key ? (this.sort.down ? "descending" : "ascending") : "none";
    const button = el(
      "button",
      { type: "button", title: one.about, "data-key": one.key, click: () => this.by(one) },
      one.label,
    );
    return el("th", { scope: "col", class: one.digits === null ? null : "number", "aria-sort": sorted }, button);
  }

  // A number's largest first, a word's first letters first; then the other way round; then as the study has them.
  by(one) {
    const first = one.digits !== null;
    const turn = this.sort?.key === one.key ? this.sort.turn + 1 : 1;
    this.sort = turn > 2 ? null : { key: one.key, turn, down: turn === 1 ? first : !first };
    this.box.scrollTop = 0;
    this.draw();
  }

  more(least = 0) {
    const near = () => this.box.scrollTop + this.box.clientHeight > this.box.scrollHeight - 800;
    let at = this.shown.length ? this.body.childElementCount : Infinity;
    while (at < this.shown.length && (at < least || near())) {
      const rows = this.shown.slice(at, at + CHUNK).map((row) => this.line(row));
      this.body.append(...rows);
      at += rows.length;
    }
  }

  line(row) {
    const cells = this.drawing.map((one, at) => {
      const made = this.cell(row, one) ?? said(row[one.key], one);
      if (at === 0)
        return el(
          "th",
          { scope: "row", class: one.digits === null ? "words" : null, title: String(row[one.key]) },
          el("button", { type: "button", class: "clamp", click: () => this.open(row) }, made),
        );
      if (one.digits === null)
        return el("td", { class: "words", title: row[one.key] }, el("span", { class: "clamp" }, made));
      return el(
        "td",
        { class: row[one.key] !== null && row[one.key] === this.best[one.key] ? "number best" : "number" },
        made,
      );
    });
    return el("tr", {}, ...cells);
  }
}

function said(value, one) {
  if (one.digits === null) return spelled(cut(String(value ?? ""), 200));
  return one.key.endsWith("_off") ? signed(value, one.digits) : number(value, one.digits);
}

// A small table as it is; `keys` are what the heads are called.
function small(label, heads, rows, kinds = []) {
  const cell = (value, at) =>
    value instanceof Node ? value : typeof value === "number" ? number(value, kinds[at] ?? 2) : (value ?? NOTHING);
  const isNumber = heads.map((_, at) => rows.some((row) => typeof row[at] === "number"));
  const kind = (at) => (isNumber[at] ? "number" : "words");
  const line = (row) =>
    el(
      "tr",
      {},
      ...row.map((value, at) => el(at ? "td" : "th", { scope: at ? null : "row", class: kind(at) }, cell(value, at))),
    );
  const top = el(
    "tr",
    {},
    ...heads.map((head, at) => el("th", { scope: "col", class: isNumber[at] ? "number" : null }, head)),
  );
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", { "aria-label": label }, el("thead", {}, top), el("tbody", {}, ...rows.map(line))),
  );
}

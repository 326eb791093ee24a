// A table with sorting, a filter and selectable columns. Rows are created while the user scrolls.

const CHUNK = 100;
const CONDITION = /^([a-z_0-9]+)(<=|>=|<|>|=)(-?[\d.]+)$/i;
const COMPARE = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
};

// `hr gflops<5`: a row matches if its text contains every word and its numbers meet every condition.
function parseFilter(text, columns) {
  const numeric = new Set(columns.filter((column) => column.digits !== null).map((column) => column.key));
  const tests = text
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => {
      const [, key, operator, value] = CONDITION.exec(word) ?? [];
      if (!numeric.has(key)) return (row) => row.searchText.includes(word);
      return (row) => row[key] !== null && COMPARE[operator](row[key], Number(value));
    });
  return (row) => tests.every((test) => test(row));
}

// Sorts numbers by value and texts alphabetically; missing values are last in both directions.
function sorted(rows, key, isDescending) {
  const sign = isDescending ? -1 : 1;
  const isMissing = (value) => value === null || value === "";
  return [...rows].sort((first, second) => {
    const [a, b] = [first[key], second[key]];
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    return sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  });
}

class Table {
  constructor({ label, noun, hint, open, cell, onFilter = () => {} }) {
    Object.assign(this, { noun, open, cell, onFilter, rows: [], columns: [], sort: null, displayed: [] });
    this.userChoices = new Map(); // column key -> whether the user wants the column
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
      { class: "scroll tall", tabindex: "0", role: "region", "aria-label": label, scroll: () => this.appendRows() },
      table,
    );
    const menu = el("details", { class: "choose" }, el("summary", {}, "Columns"), this.chooser);
    menu.addEventListener("keydown", (event) => event.key === "Escape" && (menu.open = false));
    document.addEventListener("click", (event) => menu.contains(event.target) || (menu.open = false));
    this.node = el("div", {}, el("div", { class: "controls" }, this.input, this.count, menu), this.box);
  }

  // Replaces rows and columns; sorting, filter, chosen columns and scroll position stay.
  update(rows, columns) {
    const [top, left] = [this.box.scrollTop, this.box.scrollLeft];
    const keys = columns.map((column) => column.key).join();
    const values = (key) => rows.map((row) => row[key]).filter(hasValue);
    const isLong = rows.some((row) => String(row[columns[0].key]).length > 20);
    this.rows = rows;
    this.best = Object.fromEntries(columns.filter(({ best }) => best).map(({ key, best }) => [key, Math[best](...values(key))]));
    this.box.classList.toggle("long-names", isLong);
    if (keys !== this.keys) {
      this.keys = keys;
      this.columns = columns;
      this.updateChooser();
    }
    this.filter(this.body.childElementCount);
    this.box.scrollTo(left, top);
  }

  isVisible({ key, visible }) {
    return this.userChoices.get(key) ?? visible;
  }

  updateChooser() {
    const change = (key, isWanted) => {
      this.userChoices.set(key, isWanted);
      this.draw();
    };
    this.chooser.replaceChildren(
      ...this.columns.slice(1).map((column) => {
        const box = el("input", { type: "checkbox", change: () => change(column.key, box.checked) });
        box.checked = this.isVisible(column);
        return el("label", { title: column.description }, box, column.label);
      }),
    );
  }

  filter(minRows = CHUNK) {
    this.matching = this.rows.filter(parseFilter(this.input.value, this.columns));
    const all = plural(this.rows.length, this.noun);
    const isFiltered = this.matching.length < this.rows.length;
    this.count.textContent = isFiltered ? `${number(this.matching.length, 0)} of ${all}` : all;
    this.draw(minRows);
    this.onFilter(this.matching);
  }

  draw(minRows = CHUNK) {
    this.displayed = this.sort ? sorted(this.matching, this.sort.key, this.sort.isDescending) : this.matching;
    this.visible = this.columns.filter((column) => this.isVisible(column));
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.head.replaceChildren(el("tr", {}, ...this.visible.map((column) => this.headCell(column))));
    this.head.querySelector(`[data-key="${focused}"]`)?.focus();
    this.body.replaceChildren();
    if (!this.displayed.length) this.body.append(el("tr", {}, el("td", { colspan: this.visible.length }, "None.")));
    this.appendRows(minRows);
  }

  headCell(column) {
    const isSorted = this.sort?.key === column.key;
    const direction = !isSorted ? "none" : this.sort.isDescending ? "descending" : "ascending";
    const button = el(
      "button",
      { type: "button", title: column.description, "data-key": column.key, click: () => this.sortBy(column) },
      column.label,
    );
    return el("th", { scope: "col", class: column.digits === null ? null : "number", "aria-sort": direction }, button);
  }

  // First click: numbers descending, texts ascending; second click: reversed; third click: the order of the study.
  sortBy(column) {
    const isDescending = column.digits !== null;
    const click = this.sort?.key === column.key ? this.sort.click + 1 : 1;
    this.sort = click > 2 ? null : { key: column.key, click, isDescending: isDescending === (click === 1) };
    this.box.scrollTop = 0;
    this.draw();
  }

  appendRows(minRows = 0) {
    const isNearEnd = () => this.box.scrollTop + this.box.clientHeight > this.box.scrollHeight - 800;
    let count = this.displayed.length ? this.body.childElementCount : Infinity;
    while (count < this.displayed.length && (count < minRows || isNearEnd())) {
      const rows = this.displayed.slice(count, count + CHUNK).map((row) => this.tableRow(row));
      this.body.append(...rows);
      count += rows.length;
    }
  }

  tableRow(row) {
    return el("tr", {}, ...this.visible.map((column, i) => this.tableCell(row, column, i === 0)));
  }

  tableCell(row, { key, digits }, isFirst) {
    const content = this.cell(row, key) ?? cellContent(row[key], key, digits);
    const isText = digits === null;
    if (isFirst)
      return el(
        "th",
        { scope: "row", class: isText ? "words" : null, title: String(row[key]) },
        el("button", { type: "button", class: "clamp", click: () => this.open(row) }, content),
      );
    if (isText) return el("td", { class: "words", title: row[key] }, el("span", { class: "clamp" }, content));
    const isBest = row[key] !== null && row[key] === this.best[key];
    return el("td", { class: isBest ? "number best" : "number" }, content);
  }
}

function cellContent(value, key, digits) {
  if (digits === null) return specText(truncate(String(value ?? ""), 200));
  return key.endsWith("_off") ? signed(value, digits) : number(value, digits);
}

// A table without controls.
function smallTable(label, heads, rows, digits = []) {
  const cell = (value, i) => (typeof value === "number" ? number(value, digits[i] ?? 2) : (value ?? MISSING));
  const isNumeric = heads.map((_, i) => rows.some((row) => typeof row[i] === "number"));
  const tableRow = (row) =>
    el(
      "tr",
      {},
      ...row.map((value, i) => {
        const attributes = { scope: i ? null : "row", class: isNumeric[i] ? "number" : "words" };
        return el(i ? "td" : "th", attributes, cell(value, i));
      }),
    );
  const headRow = el(
    "tr",
    {},
    ...heads.map((head, i) => el("th", { scope: "col", class: isNumeric[i] ? "number" : null }, head)),
  );
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", { "aria-label": label }, el("thead", {}, headRow), el("tbody", {}, ...rows.map(tableRow))),
  );
}

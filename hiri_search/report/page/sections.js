// The page from top to bottom. A section is made once; what stands in it is brought up to date when there is news.

class Section {
  constructor(id, title, said, wanted, parts, update = () => {}) {
    Object.assign(this, { id, title, wanted, parts, renew: update });
    this.said = el("p", { class: "say" });
    this.words = said;
    this.node = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), this.said, ...parts.map((part) => part.node ?? part));
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

class Page {
  constructor() {
    this.view = { cost: "gflops", log: false, logScore: false, objective: "top1" };
    this.parts = { unit: "gflops", share: false };
    this.visible = null;
    this.kept = (network) => this.visible === null || this.visible.has(network.index);
    this.top = el("div");
    this.sections = [this.costs(), this.table(), this.seeds(), this.compared(), this.learning(), this.byPart(), ...this.searched(), this.plan(), this.failures(), this.inference(), this.trials()];
    document.getElementById("main").replaceChildren(this.top, ...this.sections.map((section) => section.node));
    document.getElementById("nav").replaceChildren(...this.sections.map((section) => section.link));
  }

  update(content) {
    this.study = study(content);
    document.title = content.title;
    this.top.replaceChildren(...head(this.study, this.top.querySelector("details")?.open));
    for (const section of this.sections) section.update(this);
    redrawAll();
  }

  open(network, trial = null) {
    if (network) openNetwork(this, network, trial);
  }

  costs() {
    const pick = choice("Cost", [["gflops", "GFLOPs"]], "gflops", (value) => this.look({ cost: value }));
    const log = tick("log cost", (on) => this.look({ log: on }));
    const logScore = tick("log top-1", (on) => this.look({ logScore: on }));
    const click = (point) => this.open(this.study.networks[point.customdata]);
    const own = new Figure({ caption: "This study", label: "Top-1 against cost, this study", make: () => costFigure(this), click });
    const paper = new Figure({ caption: "The paper", label: "Top-1 against cost, published", make: () => paperFigure(this) });
    const said = (page) => `Each point is a network; ${page.study.search ? "the line is the front of what has finished" : "bars are standard deviations over seeds, the line is the front"}. The two panels have scales of their own: short trainings here, ImageNet-1K there.`;
    const parts = [el("div", { class: "controls" }, pick.node, log, logScore), el("div", { class: "pair" }, own.node, paper.node)];
    return new Section("cost", "Accuracy and cost", said, () => true, parts, (page) => {
      const known = ["step", "side", "gflops", "params_m", "ms"].filter((cost) => page.study.networks.some((row) => row[cost] !== null && row[cost] !== undefined) && (!["step", "side"].includes(cost) || page.study.paper.costs.includes(cost)));
      pick.select.replaceChildren(...(known.length ? known : ["gflops"]).map((cost) => el("option", { value: cost }, page.study.axes[cost])));
      pick.select.value = this.view.cost;
      paper.caption.textContent = page.study.paper.title;
    });
  }

  look(change) {
    Object.assign(this.view, change);
    redrawAll();
  }

  table() {
    const cell = (row, one) => (one.key === "name" ? el("span", { class: `dot${row.front ? " front" : ""}` }, cut(row.name, 120)) : null);
    const changed = (kept) => {
      this.visible = kept.length === this.study.networks.length ? null : new Set(kept.map((row) => row.index));
      clearTimeout(this.waiting);
      this.waiting = setTimeout(redrawAll, 150);
    };
    const table = new Table({ label: "Networks", noun: "network", hint: "Filter: hr gflops<5 top1>40", open: (row) => this.open(row), cell, changed });
    const said = "A dot marks the front of top-1 against GFLOPs. Click a head to sort, a name to open it; the filter holds for the figures too.";
    return new Section("networks", "Networks", said, () => true, [table.node], (page) => table.update(page.study.networks, page.study.columns));
  }

  seeds() {
    const figure = new Figure({ label: "Top-1 of each seed with intervals", make: () => seedsFigure(this), click: (point) => this.open(this.study.networks[point.customdata]) });
    const said = (page) => `How much is luck: each ring is a seed, the stroke their mean, the grey line Student's 95 % interval of it, which runs out of the picture where seeds are few.${page.study.looks.some((look) => look.second) ? " Orange: the longer trainings of the second look." : ""}`;
    return new Section("seeds", "Seeds and intervals", said, (page) => page.study.looks.length, [figure]);
  }

  compared() {
    const body = el("div");
    return new Section("shown", "What is shown", (page) => page.study.comparisons.caption, (page) => page.study.comparisons.rows.length, [body], (page) => body.replaceChildren(shownTable("Comparisons", page.study.comparisons)));
  }

  learning() {
    const figure = new Figure({ label: "Top-1 by epoch", make: () => learningFigure(this), click: (point) => this.openTrial(point.customdata) });
    const said = (page) => {
      const all = page.study.trials.filter((trial) => trial.curve.length && !trial.second).length;
      const most = all > MOST_CURVES ? ` Of ${number(all, 0)} trials the front's are drawn, and every so many-th of the others.` : "";
      return `Top-1 on all validation pictures behind each epoch, a line for each trial.${most}`;
    };
    return new Section("learning", "Learning", said, (page) => page.study.trials.length, [figure]);
  }

  openTrial(number) {
    const trial = this.study.trials.find((one) => one.trial === number);
    if (trial) this.open(trial.of, trial);
  }

  byPart() {
    const figure = new Figure({ label: "Cost by part of each network", make: () => partsFigure(this), click: (point) => this.open(this.study.networks[point.customdata]) });
    const units = choice("Cost", [["gflops", "GFLOPs"], ["params_m", "Params"]], "gflops", (unit) => { this.parts.unit = unit; figure.redraw(); });
    const share = tick("as shares", (on) => { this.parts.share = on; figure.redraw(); });
    const said = (page) => `Where the multiply-adds and the parameters are, from stem to head, counted on the modules.${page.study.networks.length > MOST_BARS ? " Of many networks: those on the front." : ""}`;
    return new Section("parts", "Cost by part", said, (page) => page.study.networks.length, [el("div", { class: "controls" }, units.node, share), figure]);
  }

  searched() {
    const searching = (page) => page.study.search;
    const importance = new Figure({ label: "Importance of each decision", make: () => importanceFigure(this) });
    const pick = choice("For", [["top1", "top-1"]], "top1", (value) => this.look({ objective: value }));
    const parallel = new Figure({ label: "Decisions, costs and top-1 of each network", make: () => parallelFigure(this), scrolls: true });
    const volume = new Figure({ label: "Hypervolume over trials", make: () => volumeFigure(this) });
    const [second, proxies] = [el("div"), el("div")];
    return [
      new Section("second", "A second look", (page) => page.study.believed, (page) => page.study.confirmed.rows.length, [second], (page) => second.replaceChildren(shownTable("A second look", page.study.confirmed))),
      new Section("importance", "What matters", "How far each decision sets the best networks apart from the others (PED-ANOVA); the shares add up to 100 %. With few trials it is a hint.", searching, [el("div", { class: "controls" }, pick.node), importance], (page) => objectives(pick.select, page)),
      new Section("parallel", "Every decision", "Each line is a network, from its decisions to what it came to. Drag along an axis to pick lines, and drag an axis to move it.", searching, [parallel]),
      new Section("found", "Found when", "The share of the last dominated hypervolume that had been found behind each finished trial.", searching, [volume]),
      new Section("proxies", "Zero-cost proxies", "Kendall's tau of each proxy, and of the costs, with top-1.", (page) => page.study.proxies.rows.length, [proxies], (page) => proxies.replaceChildren(shownTable("Proxies", page.study.proxies))),
    ];
  }

  plan() {
    const bars = el("div", { class: "bars" });
    return new Section("plan", "Plan and reality", "What the plan said before anything was spent (grey), and what it took.", (page) => page.study.planned.length, [bars], (page) => bars.replaceChildren(...planned(page.study.planned)));
  }

  failures() {
    const body = el("div");
    const failed = (page) => page.study.trials.filter((trial) => trial.state === "failed");
    const said = (page) => `${plural(failed(page).length, "trial")} failed. --retry-failed trains them again.`;
    return new Section("failures", "Failures", said, (page) => failed(page).length, [body], (page) => body.replaceChildren(reasons(this, failed(page))));
  }

  inference() {
    const body = el("div");
    return new Section("inference", "Inference", "Measured; the machine stands in inference.csv in full.", (page) => page.study.inference.rows.length, [body], (page) => body.replaceChildren(timed(page.study.inference)));
  }

  trials() {
    const table = new Table({ label: "Trials", noun: "trial", hint: "Filter: failed top1>40", open: (row) => this.open(row.of, row), cell: (row, one) => (one.key === "trial" ? String(row.trial) : null) });
    return new Section("trials", "Every trial", "A line for each network and seed.", () => true, [table.node], (page) => table.update(page.study.trials, OF_TRIALS.filter((one) => page.study.trials.some((row) => row[one.key] !== null && row[one.key] !== ""))));
  }
}

const OF_TRIALS = [
  ["trial", "Trial", "By the order that they were asked in.", 0], ["name", "Network", "", null], ["seed", "Seed", "", 0], ["state", "State", "", null], ["epochs", "Epochs", "", 0], ["top1", "Top-1 %", "Of the last epoch.", 2],
  ["ema_top1", "EMA %", "Of the averaged weights.", 2], ["loss", "Loss", "Of the last epoch.", 3], ["seconds", "Seconds", "Spent in training.", 1], ["device", "Device", "", null], ["source", "From", "Where its curve is from, if it was not trained.", null], ["reason", "Reason", "Of failing or stopping.", null],
].map(([key, label, about, digits]) => ({ key, label, about, digits, shown: true }));

function head(shown, open = false) {
  const cards = shown.cards.map((card) => el("div", { class: "card" }, el("p", { class: "label" }, card.label), el("p", { class: "value" }, card.value), el("p", { class: "detail", title: card.detail }, card.detail)));
  const asked = el("dl", { class: "facts" }, ...shown.facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))));
  const caption = el("details", { class: "caption", open }, el("summary", {}, "What was counted, and what was trained on what"), el("p", {}, shown.caption));
  return [el("p", { class: "over" }, shown.search ? "hiri_search, a search" : "hiri_search, an ablation"), el("h1", {}, shown.title), el("div", { class: "cards" }, ...cards), asked, caption];
}

function shownTable(label, { columns, rows }) {
  const digits = columns.map((name) => (/rank|seeds|epochs|networks|side/.test(name) ? 0 : /params|gflops/.test(name) ? 3 : 2));
  return small(label, columns.map((name) => name.replaceAll("_", " ")), rows.map((row) => row.map((value) => (typeof value === "string" ? cut(value, 90) : value))), digits);
}

function objectives(select, page) {
  const known = Object.keys(page.study.importances);
  const words = { front: "the front", top1: "top-1", gmacs: "GFLOPs", mparams: "params", ms_per_image: "inference", memory: "memory" };
  select.replaceChildren(...known.map((name) => el("option", { value: name }, words[name] ?? name)));
  if (known.length && !known.includes(page.view.objective)) page.view.objective = known[0];
  select.value = page.view.objective;
  select.parentElement.hidden = !known.length;
}

function planned(parts) {
  const most = Math.max(...parts.flatMap(([, before, took]) => [before, took]));
  const bar = (value, kind, words) => el("div", { class: `fill ${kind}` }, el("i", { style: `width:${(62 * value) / most}%` }), words);
  return parts.flatMap(([part, before, took]) => [
    el("span", {}, part),
    el("div", { class: "track" }, bar(before, "planned", `planned ${seconds(before)}`), bar(took, part === "in all" ? "total" : "", `took ${seconds(took)} (plan ${before >= took ? "+" : "−"}${number(Math.abs(100 * (before / took - 1)), 0)} %)`)),
  ]);
}

// By reason; numbers in it may differ.
function reasons(page, failed) {
  const groups = Map.groupBy ? Map.groupBy(failed, sameReason) : grouped(failed, sameReason);
  const rows = [...groups.values()].sort((a, b) => b.length - a.length).map((group) => {
    const links = group.slice(0, 12).flatMap((trial) => [el("button", { type: "button", class: "link", click: () => page.open(trial.of, trial) }, String(trial.trial)), " "]);
    return [el("span", {}, group[0].reason || "for no reason"), group.length, el("span", {}, ...links, group.length > 12 ? "…" : ""), distinct(group.map((trial) => trial.name)).slice(0, 4).join(", ")];
  });
  const table = small("Failures by reason", ["Reason", "Times", "Trials", "Networks"], rows, [0, 0]);
  table.classList.add("reasons");
  return table;
}

const sameReason = (trial) => trial.reason.replace(/\d+(\.\d+)?/g, "0");

function grouped(values, key) {
  const groups = new Map();
  for (const value of values) groups.set(key(value), [...(groups.get(key(value)) ?? []), value]);
  return groups;
}

const OF_INFERENCE = { name: "Network", side: "Side", batch: "Batch", ms_per_image: "ms/image", images_per_second: "images/s", spread: "Spread %", repeats: "Rounds", settled: "Settled", "conditions.machine.device": "On" };

function timed({ columns, rows }) {
  const known = Object.keys(OF_INFERENCE).filter((name) => columns.includes(name));
  const words = (value) => (typeof value === "boolean" ? (value ? "yes" : "no") : typeof value === "string" ? cut(value, 90) : value);
  const digits = known.map((name) => (["side", "batch", "repeats"].includes(name) ? 0 : name === "spread" ? 1 : 2));
  const value = (row, name) => (name === "spread" ? 100 * row[columns.indexOf(name)] : words(row[columns.indexOf(name)]));
  return small("Inference", known.map((name) => OF_INFERENCE[name]), rows.map((row) => known.map((name) => value(row, name))), digits);
}

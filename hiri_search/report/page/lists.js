// What stands on the page as it is: the head, small tables, the plan.

const OF_TRIALS = [
  ["trial", "Trial", "By the order that they were asked in.", 0],
  ["name", "Network", "", null],
  ["seed", "Seed", "", 0],
  ["state", "State", "", null],
  ["epochs", "Epochs", "", 0],
  ["top1", "Top-1 %", "Of the last epoch.", 2],
  ["ema_top1", "EMA %", "Of the averaged weights.", 2],
  ["loss", "Loss", "Of the last epoch.", 3],
  ["seconds", "Seconds", "Spent in training.", 1],
  ["device", "Device", "", null],
  ["source", "From", "Where its curve is from, if it was not trained.", null],
  ["reason", "Reason", "Of failing or stopping.", null],
].map(([key, label, about, digits]) => ({ key, label, about, digits, shown: true }));

function head(shown, open = false) {
  const cards = shown.cards.map((card) =>
    el(
      "div",
      { class: "card" },
      el("p", { class: "label" }, card.label),
      el("p", { class: "value" }, card.value),
      el("p", { class: "detail", title: card.detail }, spelled(card.detail)),
    ),
  );
  const asked = el(
    "dl",
    { class: "facts" },
    ...shown.facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))),
  );
  const caption = el(
    "details",
    { class: "caption", open },
    el("summary", {}, "What was counted, and what was trained on what"),
    el("p", {}, shown.caption),
  );
  return [
    el("p", { class: "over" }, shown.search ? "hiri_search, a search" : "hiri_search, an ablation"),
    el("h1", {}, shown.title),
    el("div", { class: "cards" }, ...cards),
    asked,
    caption,
  ];
}

function shownTable(label, { columns, rows }) {
  const digits = columns.map((name) =>
    /rank|seeds|epochs|networks|side/.test(name) ? 0 : /params|gflops/.test(name) ? 3 : 2,
  );
  return small(
    label,
    columns.map((name) => name.replaceAll("_", " ")),
    rows.map((row) => row.map((value) => (typeof value === "string" ? spelled(cut(value, 240)) : value))),
    digits,
  );
}

function objectives(select, page) {
  const known = Object.keys(page.study.importances);
  const words = {
    front: "the front",
    top1: "top-1",
    gmacs: "GFLOPs",
    mparams: "params",
    ms_per_image: "inference",
    memory: "memory",
  };
  select.replaceChildren(...known.map((name) => el("option", { value: name }, words[name] ?? name)));
  if (known.length && !known.includes(page.view.objective)) page.view.objective = known[0];
  select.value = page.view.objective;
  select.parentElement.hidden = !known.length;
}

function planned(parts) {
  const most = Math.max(...parts.flatMap(([, before, took]) => [before, took]));
  const bar = (value, kind, words) =>
    el("div", { class: `fill ${kind}` }, el("i", { style: `width:${(62 * value) / most}%` }), words);
  return parts.flatMap(([part, before, took]) => [
    el("span", {}, part),
    el(
      "div",
      { class: "track" },
      bar(before, "planned", `planned ${seconds(before)}`),
      bar(
        took,
        part === "in all" ? "total" : "",
        `took ${seconds(took)} (plan ${signed(100 * (before / took - 1), 0)} %)`,
      ),
    ),
  ]);
}

// By reason; numbers in it may differ.
function reasons(page, failed) {
  const groups = Map.groupBy ? Map.groupBy(failed, sameReason) : grouped(failed, sameReason);
  const rows = [...groups.values()]
    .sort((a, b) => b.length - a.length)
    .map((group) => {
      const links = group
        .slice(0, 12)
        .flatMap((trial) => [
          el("button", { type: "button", class: "link", click: () => page.open(trial.of, trial) }, String(trial.trial)),
          " ",
        ]);
      return [
        el("span", {}, group[0].reason || "for no reason"),
        group.length,
        el("span", {}, ...links, group.length > 12 ? "…" : ""),
        distinct(group.map((trial) => trial.name))
          .slice(0, 4)
          .join(", "),
      ];
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

const OF_INFERENCE = {
  name: "Network",
  side: "Side",
  batch: "Batch",
  ms_per_image: "ms/image",
  images_per_second: "images/s",
  spread: "Spread %",
  repeats: "Rounds",
  settled: "Settled",
  "conditions.machine.device": "On",
};

function timed({ columns, rows }) {
  const known = Object.keys(OF_INFERENCE).filter((name) => columns.includes(name));
  const words = (value) =>
    typeof value === "boolean" ? (value ? "yes" : "no") : typeof value === "string" ? cut(value, 90) : value;
  const digits = known.map((name) => (["side", "batch", "repeats"].includes(name) ? 0 : name === "spread" ? 1 : 2));
  const value = (row, name) =>
    name === "spread" ? 100 * row[columns.indexOf(name)] : words(row[columns.indexOf(name)]);
  return small(
    "Inference",
    known.map((name) => OF_INFERENCE[name]),
    rows.map((row) => known.map((name) => value(row, name))),
    digits,
  );
}

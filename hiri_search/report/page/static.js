// Content without interaction: the head of the page, small tables, the bars of the plan.

function pageHead(study, isOpen = false) {
  const cards = study.cards.map((card) =>
    el(
      "div",
      { class: "card" },
      el("p", { class: "label" }, card.label),
      el("p", { class: "value" }, card.value),
      el("p", { class: "detail", title: card.detail }, specText(card.detail)),
    ),
  );
  const facts = study.facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)));
  const caption = el(
    "details",
    { class: "caption", open: isOpen },
    el("summary", {}, "Which networks were counted and trained, on which images"),
    el("p", {}, study.caption),
  );
  return [
    el("p", { class: "over" }, study.search ? "hiri_search: a search" : "hiri_search: an ablation"),
    el("h1", {}, study.title),
    el("div", { class: "cards" }, ...cards),
    el("dl", { class: "facts" }, ...facts),
    caption,
  ];
}

const HEADS = {
  name: "Network",
  gflops: "GFLOPs",
  low: "95 % from",
  high: "95 % to",
  beyond_low: "90 % from",
  beyond_high: "90 % to",
  proxy: "Score",
};
const headText = (name, score, short) =>
  ({ ...HEADS, [short.key]: short.head, [score.key]: score.head, [`short_${short.key}`]: `Short ${short.head}` })[name] ??
  `${name[0].toUpperCase()}${name.slice(1).replaceAll("_", " ")}`;

// A small table from the content of the page.
function contentTable(label, { columns, rows }, { score, curve_score }) {
  const digits = columns.map((name) =>
    /rank|seeds|epochs|networks|pairs|of_like_cost|side|finished|failed/.test(name) ? 0 : /params|gflops/.test(name) ? 3 : score.digits,
  );
  const cell = (value) => (typeof value === "string" ? specText(truncate(value, 240)) : value);
  return smallTable(
    label,
    columns.map((name) => headText(name, score, curve_score)),
    rows.map((row) => row.map(cell)),
    digits,
  );
}

function planBars(parts) {
  const longest = Math.max(...parts.flatMap(([, planned, actual]) => [planned, actual]));
  const bar = (seconds, kind, text) =>
    el("div", { class: `fill ${kind}` }, el("i", { style: `width:${(62 * seconds) / longest}%` }), text);
  return parts.flatMap(([part, planned, actual]) => {
    const error = signed(100 * (planned / actual - 1), 0);
    return [
      el("span", {}, part),
      el(
        "div",
        { class: "track" },
        bar(planned, "planned", `planned ${duration(planned)}`),
        bar(actual, "", `took ${duration(actual)} (plan ${error} %)`),
      ),
    ];
  });
}

// Failed trials by reason; reasons that differ only in numbers are one group.
function failureTable(page, failed) {
  const groups = new Map();
  for (const trial of failed) {
    const key = trial.reason.replace(/\d+(\.\d+)?/g, "0");
    groups.set(key, [...(groups.get(key) ?? []), trial]);
  }
  const link = (trial) =>
    el("button", { type: "button", class: "link", click: () => page.open(trial.network, trial) }, String(trial.trial));
  const rows = [...groups.values()]
    .sort((a, b) => b.length - a.length)
    .map((trials) => {
      const links = trials.slice(0, 12).flatMap((trial) => [link(trial), " "]);
      const names = distinct(trials.map((trial) => trial.name)).slice(0, 4);
      const reason = el("span", {}, trials[0].reason || "no reason recorded");
      return [reason, trials.length, el("span", {}, ...links, trials.length > 12 ? "…" : ""), names.join(", ")];
    });
  return smallTable("Failures by reason", ["Reason", "Count", "Trials", "Networks"], rows, [0, 0]);
}

const INFERENCE_COLUMNS = [
  ["name", "Network", null],
  ["side", "Side", 0],
  ["batch", "Batch", 0],
  ["ms_per_image", "ms/image", 2],
  ["images_per_second", "images/s", 2],
  ["spread", "Spread %", 1],
  ["repeats", "Rounds", 0],
  ["settled", "Settled", null],
  ["conditions.machine.device", "Device", null],
];

function inferenceTable({ columns, rows }) {
  const present = INFERENCE_COLUMNS.filter(([key]) => columns.includes(key));
  const cell = (value, key) => {
    if (key === "spread") return 100 * value;
    if (typeof value === "boolean") return value ? "yes" : "no";
    return typeof value === "string" ? truncate(value, 90) : value;
  };
  return smallTable(
    "Inference",
    present.map(([, label]) => label),
    rows.map((row) => present.map(([key]) => cell(row[columns.indexOf(key)], key))),
    present.map(([, , digits]) => digits),
  );
}

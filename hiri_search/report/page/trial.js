// One network with its trials, opened over the page; `#trial=3` in the address opens it too.

const dialog = document.getElementById("trial");

function facts(entries) {
  return el(
    "dl",
    {},
    ...entries
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}

function openNetwork(page, network, picked = null) {
  const close = el("button", { type: "button", click: () => dialog.close(), "aria-label": "Close" }, "Close");
  const title = el("h2", { id: "trial-title" }, spelled(network.name));
  const known = facts([
    ["Spec", el("code", {}, spelled(network.spec))],
    [
      "Trained",
      network.trained_spec && network.trained_spec !== network.spec ? el("code", {}, spelled(network.trained_spec)) : null,
    ],
    ["Top-1", network.top1 === null ? null : `${worth(network)} over ${plural(network.seeds, "seed")}`],
    ["Costs", `${number(network.gflops, 3)} GFLOPs, ${number(network.params_m, 2)} M params at ${network.side} pixels`],
    ["Inference", network.ms === null ? null : `${number(network.ms, 2)} ms per image`],
    ["Decisions", decisionsOf(page, network)],
    ["Note", network.note],
    ["Key", el("code", {}, network.key)],
  ]);
  dialog.replaceChildren(
    el("div", { class: "head" }, title, close),
    known,
    ...learned(page, network, picked),
    ...costs(network),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  const trial = picked ?? network.trials[0];
  if (trial) history.replaceState(null, "", `#trial=${trial.trial}`);
}

function decisionsOf(page, network) {
  return Object.entries(page.study.decisions)
    .filter(([, one]) => one.at[network.index] !== null)
    .map(([name, one]) => `${inWords(name)} ${one.options[one.at[network.index]]}`)
    .join(" · ");
}

function learned(page, network, picked) {
  if (!network.trials.length) return [el("p", { class: "none" }, "Counted only: no trial of it was asked for.")];
  const heads = ["Trial", "Seed", "State", "Epochs", "Top-1 %", "EMA %", "Loss", "Seconds", "On", "Reason"];
  const rows = network.trials.map((t) => [
    `${t.trial}${t.second ? " (longer)" : ""}`,
    t.seed,
    t.source ? `${t.state}, as ${t.source}` : t.state,
    t.epochs,
    t.top1,
    t.ema_top1,
    t.loss,
    t.seconds,
    t.device ?? "",
    el("span", {}, t.reason ?? ""),
  ]);
  const table = small("Trials of this network", heads, rows, [0, 0, 0, 0, 2, 2, 3, 1]);
  table
    .querySelectorAll("tbody tr")
    .forEach((line, at) => network.trials[at] === picked && line.classList.add("picked"));
  table.querySelectorAll("tbody td:last-child").forEach((cell) => cell.classList.add("reason"));
  const with_curves = network.trials.filter((trial) => trial.curve.length);
  const shown = [el("h3", {}, plural(network.trials.length, "trial")), table];
  if (with_curves.length) shown.push(el("h3", {}, "Learning"), curves(page, with_curves));
  const places = network.trials.filter((trial) => trial.checkpoint);
  if (places.length)
    shown.push(
      el("h3", {}, "Checkpoints"),
      ...places.map((trial) => el("p", { class: "say" }, `trial ${trial.trial}: `, el("code", {}, trial.checkpoint))),
    );
  return shown;
}

function curves(page, trials) {
  const plot = el("div", { class: "plot", role: "img", "aria-label": "Top-1 by epoch of the trials of this network" });
  const data = trials.map((trial, at) => ({
    type: "scatter",
    mode: "lines+markers",
    name: `seed ${plain(trial.seed)}${trial.second ? ", longer" : ""}`,
    x: trial.curve.map((_, n) => n + 1),
    y: trial.curve,
    line: { color: coloured(page.study.colours[at % page.study.colours.length]), width: 1.8 },
    marker: { size: 5 },
    hovertemplate: "epoch %{x}: %{y:.2f} %",
  }));
  const look = layout({ height: 260, xaxis: axis("Epoch"), yaxis: axis("Top-1 (%)"), showlegend: trials.length > 1 });
  plotly().then((Plotly) => Plotly.newPlot(plot, data, look, { ...CONFIG, displayModeBar: false }));
  return plot;
}

function costs(network) {
  if (!network.parts.length) return [];
  const whole = [1, 2].map((at) => network.parts.reduce((sum, part) => sum + part[at], 0) || 1);
  const rows = network.parts.map(([name, params, gflops]) => [
    name,
    gflops,
    (100 * gflops) / whole[1],
    params,
    (100 * params) / whole[0],
  ]);
  return [
    el("h3", {}, "Cost by part"),
    small("Cost by part", ["Part", "GFLOPs", "%", "Params M", "%"], rows, [0, 3, 1, 3, 1]),
  ];
}

dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

function openAddressed(page) {
  const asked = /^#trial=(\d+)$/.exec(location.hash)?.[1];
  const trial = page.study.trials.find((one) => String(one.trial) === asked);
  if (trial) openNetwork(page, trial.of, trial);
}

// The dialog of one network with its trials; `#trial=3` in the address opens it too.

const dialog = document.getElementById("trial");

function openNetwork(page, network, selected = null) {
  const close = el("button", { type: "button", click: () => dialog.close(), "aria-label": "Close" }, "Close");
  const title = el("h2", { id: "trial-title" }, specText(network.name));
  const { score } = page.study;
  const hasScore = hasValue(network[score.key]);
  const hasStandIn = network.trained_spec && network.trained_spec !== network.spec;
  const facts = definitionList([
    ["Spec", el("code", {}, specText(network.spec))],
    ["Stand-in", hasStandIn ? el("code", {}, specText(network.trained_spec)) : null],
    [score.title, hasScore ? `${scoreText(network, score)} over ${plural(network.seeds, "seed")}` : null],
    ["Costs", `${number(network.gflops, 3)} GFLOPs, ${number(network.params_m, 2)} M params at ${network.side} pixels`],
    ["Inference", network.ms === null ? null : `${number(network.ms, 2)} ms per image`],
    ["Decisions", decisionsText(page, network)],
    ["Note", network.note],
    ["Key", el("code", {}, network.key)],
  ]);
  dialog.replaceChildren(
    el("div", { class: "head" }, title, close),
    facts,
    ...trialContent(page, network, selected),
    ...costContent(network),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  const trial = selected ?? network.trials[0];
  if (trial) history.replaceState(null, "", `#trial=${trial.trial}`);
}

function definitionList(entries) {
  return el(
    "dl",
    {},
    ...entries
      .filter(([, value]) => hasValue(value) && value !== "")
      .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}

function decisionsText(page, network) {
  return Object.entries(page.study.decisions)
    .filter(([, { indices }]) => indices[network.index] !== null)
    .map(([name, { options, indices }]) => `${decisionLabel(name)} ${options[indices[network.index]]}`)
    .join(" · ");
}

function trialContent(page, network, selected) {
  if (!network.trials.length) return [el("p", { class: "none" }, "This network is counted only; it has no trial.")];
  const content = [el("h3", {}, plural(network.trials.length, "trial")), trialTable(page.study.trial_scores, network, selected)];
  const withCurve = network.trials.filter((trial) => trial.curve.length);
  if (withCurve.length) content.push(el("h3", {}, "Learning"), learningPlot(page, withCurve));
  const withCheckpoint = network.trials.filter((trial) => trial.checkpoint);
  if (withCheckpoint.length) content.push(el("h3", {}, "Checkpoints"));
  for (const trial of withCheckpoint)
    content.push(el("p", { class: "intro" }, `trial ${trial.trial}: `, el("code", {}, trial.checkpoint)));
  return content;
}

function trialTable(scores, network, selected) {
  const heads = ["Trial", "Seed", "State", "Epochs", ...scores.map(({ head }) => head), "Loss", "Seconds", "Device", "Reason"];
  const rows = network.trials.map((trial) => [
    `${trial.trial}${trial.isConfirmation ? " (confirmation)" : ""}`,
    trial.seed,
    trial.source ? `${trial.state}, curve of ${trial.source}` : trial.state,
    trial.epochs,
    ...scores.map(({ key }) => trial[key]),
    trial.loss,
    trial.seconds,
    trial.device ?? "",
    el("span", {}, trial.reason ?? ""),
  ]);
  if (!network.trials.some((trial) => trial.reason)) [heads, ...rows].forEach((row) => row.pop());
  const table = smallTable("Trials of this network", heads, rows, [0, 0, 0, 0, ...scores.map(({ digits }) => digits), 3, 1]);
  table.querySelectorAll("tbody tr").forEach((row, i) => {
    row.classList.toggle("picked", network.trials[i] === selected);
    row.children[7 + scores.length]?.classList.add("reason");
  });
  return table;
}

function learningPlot(page, trials) {
  const plot = el("div", { class: "plot", role: "img", "aria-label": "Score by epoch of the trials of this network" });
  const { colours, curve_score: score } = page.study;
  const data = trials.map((trial, i) => ({
    type: "scatter",
    mode: "lines+markers",
    name: `seed ${escaped(trial.seed)}${trial.isConfirmation ? ", confirmation" : ""}`,
    x: trial.curve.map((_, epoch) => epoch + 1),
    y: trial.curve,
    line: { color: themeColor(colours[i % colours.length]), width: 1.8 },
    marker: { size: 5 },
    hovertemplate: `epoch %{x}: %{y:.${score.digits}f} ${escaped(score.unit)}`,
  }));
  const longest = Math.max(...trials.map((trial) => trial.curve.length));
  const xaxis = axis("Epoch", { dtick: longest <= 12 ? 1 : undefined });
  const options = layout({ height: 260, xaxis, yaxis: axis(score.axis), showlegend: trials.length > 1 });
  loadPlotly().then((Plotly) => Plotly.newPlot(plot, data, options, { ...CONFIG, displayModeBar: false }));
  return plot;
}

function costContent(network) {
  if (!network.parts.length) return [];
  const total = (i) => network.parts.reduce((sum, part) => sum + part[i], 0) || 1;
  const rows = network.parts.map(([name, params, gflops]) => [
    name,
    gflops,
    (100 * gflops) / total(2),
    params,
    (100 * params) / total(1),
  ]);
  const table = smallTable("Cost by part", ["Part", "GFLOPs", "%", "Params M", "%"], rows, [0, 3, 1, 3, 1]);
  return [el("h3", {}, "Cost by part"), table];
}

dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

function openTrialFromAddress(page) {
  const number = /^#trial=(\d+)$/.exec(location.hash)?.[1];
  if (number) page.openTrial(Number(number));
}

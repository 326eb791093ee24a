// Figures of top-1 by epoch and by seed.

const MAX_CURVES = 300; // trials in the figure of learning curves
const MAX_COLOURED = 12; // networks with their own colour

// All trials without confirmations; of many trials those on the Pareto front and an evenly spaced part of the others.
function plottedTrials(page) {
  const trials = page.study.trials.filter(
    (trial) => trial.curve.length && !trial.confirmation && page.matches(trial.network),
  );
  if (trials.length <= MAX_CURVES) return trials;
  const front = trials.filter((trial) => trial.network.front);
  const others = trials.filter((trial) => !trial.network.front);
  const step = Math.ceil(others.length / Math.max(1, MAX_CURVES - front.length));
  return [...others.filter((_, i) => i % step === 0), ...front];
}

function learningFigure(page) {
  const trials = plottedTrials(page);
  if (!trials.length) return "No epoch has ended yet.";
  const { networks, colours, chance } = page.study;
  const isColoured = distinct(trials.map((trial) => trial.name)).length <= MAX_COLOURED;
  const styles = curveStyles(distinct(networks.map((row) => row.name)), colours);
  const inLegend = new Set();
  const data = [...trials]
    .sort((a, b) => (isColoured ? 0 : a.network.front - b.network.front))
    .map((trial) => {
      const { front } = trial.network;
      const group = isColoured ? trial.name : front ? "on the Pareto front" : "others";
      const color = isColoured ? styles.get(trial.name).color : front ? themeColor(colours[0]) : GREY;
      const showlegend = !inLegend.has(group);
      inLegend.add(group);
      return {
        type: "scatter",
        mode: trial.curve.length > 1 ? "lines" : "markers",
        name: escaped(truncate(group, 44)),
        legendgroup: group,
        showlegend,
        x: trial.curve.map((_, i) => i + 1),
        y: trial.curve,
        line: { color, width: isColoured || front ? 1.8 : 1 },
        marker: { color, size: 5 },
        opacity: isColoured || front ? 1 : 0.5,
        customdata: trial.curve.map(() => trial.trial),
        text: trial.curve.map((top1, i) =>
          tooltip(trial.name, `seed ${trial.seed}, epoch ${i + 1}: top-1 ${number(top1, 2)} %`),
        ),
        hovertemplate: "%{text}<extra></extra>",
      };
    });
  const longest = Math.max(...trials.map((trial) => trial.curve.length));
  const lowest = Math.min(...trials.flatMap((trial) => trial.curve));
  if (lowest < 4 * chance) data.push(chanceLine(chance, longest));
  return {
    data,
    height: isNarrow() ? 380 : 400,
    layout: { xaxis: axis("Epoch", { dtick: longest <= 12 ? 1 : undefined }), yaxis: axis("Top-1 (%)") },
  };
}

function chanceLine(chance, epochs) {
  return {
    type: "scatter",
    mode: "lines",
    name: `chance, ${number(chance, 1)} %`,
    x: [1, Math.max(2, epochs)],
    y: [chance, chance],
    line: { color: cssColor("faint"), width: 1, dash: "dot" },
    hoverinfo: "skip",
  };
}

// ---- seeds

function seedsFigure(page) {
  const { networks, colours } = page.study;
  const all = page.study.seeds.filter((entry) => page.matches(networks[entry.network]));
  if (!all.length) return "No network has two finished seeds, so the spread is unknown.";
  const entries = all.length > MAX_BARS ? [...all].sort((a, b) => b.top1 - a.top1).slice(0, MAX_BARS) : all;
  const y = entries.map((_, i) => i);
  const color = entries.map((entry) => themeColor(colours[entry.confirmation ? 1 : 0]));
  const texts = entries.map((entry) =>
    tooltip(
      networks[entry.network].name,
      `mean ${number(entry.top1, 2)} %, ${plural(entry.scores.length, "seed")}`,
      ...(entry.low === null ? [] : [`95 % interval ${number(entry.low, 2)} to ${number(entry.high, 2)}`]),
    ),
  );
  const scores = entries.flatMap((entry, i) => entry.scores.map((score) => ({ i, score, network: entry.network })));
  const data = [
    {
      type: "scatter",
      mode: "lines",
      name: "95 % interval of the mean",
      x: entries.flatMap((entry) => [entry.low, entry.high, null]),
      y: y.flatMap((i) => [i, i, null]),
      line: { color: cssColor("faint"), width: 2.5 },
      hoverinfo: "skip",
    },
    {
      type: "scatter",
      mode: "markers",
      name: "one seed",
      x: scores.map(({ score }) => score),
      y: scores.map(({ i }) => i),
      customdata: scores.map(({ network }) => network),
      marker: { symbol: "circle-open", size: 8, color: scores.map(({ i }) => color[i]), line: { width: 1.5 } },
      text: scores.map(({ i, score }) => `${texts[i]}<br>this seed: ${number(score, 2)} %`),
      hovertemplate: "%{text}<extra></extra>",
    },
    {
      type: "scatter",
      mode: "markers",
      name: "mean",
      x: entries.map((entry) => entry.top1),
      y,
      customdata: entries.map((entry) => entry.network),
      text: texts,
      hovertemplate: "%{text}<extra></extra>",
      marker: { symbol: "line-ns", size: 15, color, line: { width: 2.5, color } },
    },
  ];
  const values = scores.map(({ score }) => score);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(0.5, 0.45 * (high - low));
  return {
    data,
    height: 110 + (4 + rowHeight()) * entries.length,
    layout: {
      xaxis: axis("Top-1 (%)", { range: [low - margin, high + margin] }),
      yaxis: axis("", {
        tickvals: y,
        ticktext: entries.map((entry) => networkLabel(networks[entry.network].name)),
        range: [entries.length - 0.4, -0.6],
      }),
    },
  };
}

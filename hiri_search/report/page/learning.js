// Figures of the score by epoch and by seed.

const MAX_CURVES = 300; // trials in the figure of learning curves

// All trials without confirmations; of many trials those on the Pareto front and an evenly spaced part of the others.
function plottedTrials(page) {
  const trials = page.study.trials.filter(
    (trial) => trial.curve.length && !trial.isConfirmation && page.matches(trial.network),
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
  const { networks, colours, chance, curve_score: score } = page.study;
  const names = distinct(trials.map((trial) => trial.name));
  const isColoured = names.length <= colours.length; // otherwise two networks would have the same colour
  const styles = curveStyles(networks.length <= colours.length ? networks.map((row) => row.name) : names, colours);
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
        text: trial.curve.map((value, i) =>
          tooltip(trial.name, `seed ${trial.seed}, epoch ${i + 1}: ${score.label} ${valueText(value, score)}`),
        ),
        hovertemplate: "%{text}<extra></extra>",
      };
    });
  const longest = Math.max(...trials.map((trial) => trial.curve.length));
  const lowest = Math.min(...trials.flatMap((trial) => trial.curve));
  if (chance !== null && lowest < 4 * chance) data.push(chanceLine(chance, longest, score));
  return {
    data,
    height: isNarrow() ? 380 : 400,
    layout: { xaxis: axis("Epoch", { dtick: longest <= 12 ? 1 : undefined }), yaxis: axis(score.axis) },
  };
}

function chanceLine(chance, epochs, { unit }) {
  return {
    type: "scatter",
    mode: "lines",
    name: `chance, ${number(chance, 1)}${unit && ` ${unit}`}`,
    x: [1, Math.max(2, epochs)],
    y: [chance, chance],
    line: { color: cssColor("faint"), width: 1, dash: "dot" },
    hoverinfo: "skip",
  };
}

// ---- seeds

function seedsFigure(page) {
  const { networks, colours, score } = page.study;
  const all = page.study.seeds.filter((entry) => page.matches(networks[entry.network]));
  if (!all.length) return "No network has two finished seeds, so the spread is unknown.";
  const entries = all.length > MAX_BARS ? sorted(all, score.key, score.up).slice(0, MAX_BARS) : all;
  const y = entries.map((_, i) => i);
  const color = entries.map((entry) => themeColor(colours[entry.confirmation ? 1 : 0]));
  const ends = ({ low, high }) => `${number(low, score.digits)} to ${number(high, score.digits)}`;
  const texts = entries.map((entry) =>
    tooltip(
      networks[entry.network].name,
      `mean ${valueText(entry[score.key], score)}, ${plural(entry.scores.length, "seed")}`,
      ...(entry.low === null ? [] : [`95 % interval ${ends(entry)}`]),
    ),
  );
  const scores = entries.flatMap((entry, i) => entry.scores.map((value) => ({ i, value, network: entry.network })));
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
      x: scores.map(({ value }) => value),
      y: scores.map(({ i }) => i),
      customdata: scores.map(({ network }) => network),
      marker: { symbol: "circle-open", size: 8, color: scores.map(({ i }) => color[i]), line: { width: 1.5 } },
      text: scores.map(({ i, value }) => `${texts[i]}<br>this seed: ${valueText(value, score)}`),
      hovertemplate: "%{text}<extra></extra>",
    },
    {
      type: "scatter",
      mode: "markers",
      name: "mean",
      x: entries.map((entry) => entry[score.key]),
      y,
      customdata: entries.map((entry) => entry.network),
      text: texts,
      hovertemplate: "%{text}<extra></extra>",
      marker: { symbol: "line-ns", size: 15, color, line: { width: 2.5, color } },
    },
  ];
  const values = scores.map(({ value }) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = Math.max(50 * 10 ** -score.digits, 0.45 * (high - low));
  return {
    data,
    height: 110 + (4 + rowHeight()) * entries.length,
    layout: {
      xaxis: axis(score.axis, { range: [low - margin, high + margin] }),
      yaxis: axis("", {
        tickvals: y,
        ticktext: entries.map((entry) => networkLabel(networks[entry.network].name)),
        range: [entries.length - 0.4, -0.6],
      }),
    },
  };
}

// How trials learned, and how much of it was luck.

const MOST_CURVES = 300; // trials whose learning is drawn
const NAMED = 12; // networks with a colour of their own

// All of a few; of many those on the front and every so many-th of the others.
function drawnTrials(page) {
  const trials = page.study.trials.filter((trial) => trial.curve.length && !trial.second && page.kept(trial.of));
  if (trials.length <= MOST_CURVES) return trials;
  const [front, rest] = [trials.filter((trial) => trial.of.front), trials.filter((trial) => !trial.of.front)];
  const step = Math.ceil(rest.length / Math.max(1, MOST_CURVES - front.length));
  return [...rest.filter((_, at) => at % step === 0), ...front];
}

function learningFigure(page) {
  const trials = drawnTrials(page);
  if (!trials.length) return "No epoch has ended yet.";
  const names = distinct(trials.map((trial) => trial.name));
  const all =
    names.length <= NAMED ? looks(distinct(page.study.networks.map((row) => row.name)), page.study.colours) : null;
  const seen = new Set();
  const data = [...trials]
    .sort((a, b) => (all ? 0 : a.of.front - b.of.front))
    .map((trial) => {
      const group = all ? trial.name : trial.of.front ? "on the front" : "others";
      const color = all ? all.get(trial.name).color : trial.of.front ? coloured(page.study.colours[0]) : OTHERS;
      const first = !seen.has(group) && seen.add(group);
      return {
        type: "scatter",
        mode: trial.curve.length > 1 ? "lines" : "markers",
        name: plain(cut(group, 44)),
        legendgroup: group,
        showlegend: Boolean(first),
        x: trial.curve.map((_, at) => at + 1),
        y: trial.curve,
        line: { color, width: all || trial.of.front ? 1.8 : 1 },
        marker: { color, size: 5 },
        opacity: all || trial.of.front ? 1 : 0.5,
        customdata: trial.curve.map(() => trial.trial),
        text: trial.curve.map((top1, at) =>
          told(trial.name, `seed ${trial.seed}, epoch ${at + 1}: top-1 ${number(top1, 2)} %`),
        ),
        hovertemplate: "%{text}<extra></extra>",
      };
    });
  const longest = Math.max(...trials.map((trial) => trial.curve.length));
  const { chance } = page.study;
  const low = Math.min(...trials.flatMap((trial) => trial.curve));
  if (low < 4 * chance)
    data.push({
      type: "scatter",
      mode: "lines",
      name: `chance, ${number(chance, 1)} %`,
      x: [1, Math.max(2, longest)],
      y: [chance, chance],
      line: { color: ink("faint"), width: 1, dash: "dot" },
      hoverinfo: "skip",
    });
  return {
    data,
    height: narrow() ? 380 : 400,
    layout: { xaxis: axis("Epoch", { dtick: longest <= 12 ? 1 : undefined }), yaxis: axis("Top-1 (%)") },
  };
}

// ---- seeds

function seedsFigure(page) {
  const looks = page.study.looks.filter((look) => page.kept(page.study.networks[look.network]));
  if (!looks.length) return "Each network has one seed, or none that has finished: nothing is known of luck.";
  const shown = looks.length > MOST_BARS ? [...looks].sort((a, b) => b.top1 - a.top1).slice(0, MOST_BARS) : looks;
  const y = shown.map((_, at) => at);
  const [blue, orange] = [coloured(page.study.colours[0]), coloured(page.study.colours[1])];
  const said = shown.map((look) =>
    told(
      page.study.networks[look.network].name,
      `mean ${number(look.top1, 2)} %, ${plural(look.scores.length, "seed")}`,
      ...(look.low === null ? [] : [`95 % interval ${number(look.low, 2)} to ${number(look.high, 2)}`]),
    ),
  );
  const custom = shown.map((look) => look.network);
  const colour = shown.map((look) => (look.second ? orange : blue));
  const scores = shown.flatMap((look, at) => look.scores.map((score) => ({ at, score, look })));
  const data = [
    {
      type: "scatter",
      mode: "lines",
      name: "95 % interval of the mean",
      x: shown.flatMap((look) => [look.low, look.high, null]),
      y: y.flatMap((at) => [at, at, null]),
      line: { color: ink("faint"), width: 2.5 },
      hoverinfo: "skip",
    },
    {
      type: "scatter",
      mode: "markers",
      name: "a seed",
      x: scores.map((one) => one.score),
      y: scores.map((one) => one.at),
      customdata: scores.map((one) => one.look.network),
      marker: { symbol: "circle-open", size: 8, color: scores.map((one) => colour[one.at]), line: { width: 1.5 } },
      text: scores.map((one) => `${said[one.at]}<br>this seed: ${number(one.score, 2)} %`),
      hovertemplate: "%{text}<extra></extra>",
    },
    {
      type: "scatter",
      mode: "markers",
      name: "mean",
      x: shown.map((look) => look.top1),
      y,
      customdata: custom,
      text: said,
      hovertemplate: "%{text}<extra></extra>",
      marker: { symbol: "line-ns", size: 15, color: colour, line: { width: 2.5, color: colour } },
    },
  ];
  const all = scores.map((one) => one.score);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = Math.max(0.5, 0.45 * (high - low));
  const x = axis("Top-1 (%)", { range: [low - room, high + room] });
  return {
    data,
    height: 110 + (4 + rowHeight()) * shown.length,
    layout: {
      xaxis: x,
      yaxis: axis("", {
        tickvals: y,
        ticktext: shown.map((look) => label(page.study.networks[look.network].name)),
        range: [shown.length - 0.4, -0.6],
      }),
    },
  };
}

// The figures that every study has: accuracy against cost, the paper's curves, learning, cost by part, seeds.

const CLOUD = "networks"; // what many networks without a curve are called
const MOST_CURVES = 300; // trials whose learning is drawn
const NAMED = 12; // networks with a colour of their own
const MOST_BARS = 30;
const OTHERS = "#9a9a94";

const looks = (names, colours) => new Map(names.map((name, at) => [name, {
  color: coloured(colours[at % colours.length]), symbol: SYMBOLS[at % SYMBOLS.length],
}]));
const distinct = (values) => [...new Set(values)];
const worth = (row) => `${number(row.top1, 2)} %${row.spread === null ? "" : ` ± ${number(row.spread, 2)}`}`;

function told(row) {
  const costs = [[row.gflops, 3, "GFLOPs"], [row.params_m, 2, "M params"], [row.ms, 2, "ms"]]
    .filter(([value]) => value !== null && value !== undefined)
    .map(([value, digits, unit]) => `${number(value, digits)} ${unit}`);
  const spec = row.spec === row.name ? "" : `<br><i>${lines(row.spec)}</i>`;
  const seeds = row.seeds ? `top-1 ${worth(row)}, ${plural(row.seeds, "seed")}` : plain(row.state ?? "not trained");
  return `<b>${lines(cut(row.name, 400))}</b>${spec}<br>${seeds}<br>${costs.join(" · ")}`;
}

function points(name, rows, cost, look, more = {}) {
  const spreads = rows.map((row) => row.spread ?? 0);
  const bars = spreads.some(Boolean) ? { type: "data", array: spreads, thickness: 1, width: 3, color: look.color } : undefined;
  return {
    type: rows.length > MANY_POINTS && webgl() ? "scattergl" : "scatter", mode: more.mode ?? "markers", name: plain(cut(name, 44)),
    x: rows.map((row) => row[cost]), y: rows.map((row) => row.top1), text: rows.map(told), customdata: rows.map((row) => row.index),
    hovertemplate: "%{text}<extra></extra>", error_y: bars, line: { width: 1.4, color: look.color, dash: more.dash },
    marker: { color: look.color, symbol: look.symbol, size: more.size ?? 9, opacity: more.opacity ?? 1, line: { width: more.edge ?? 0, color: look.color } },
    ...more.trace,
  };
}

// Nothing is cheaper and as good, nothing better and as cheap: as the tables have it, for any cost.
function frontOf(rows, cost) {
  let best = -Infinity;
  return [...rows].sort((a, b) => a[cost] - b[cost] || b.top1 - a.top1).filter((row) => row.top1 > best && ((best = row.top1), true));
}

function frontLine(best, cost) {
  return {
    type: "scatter", mode: "lines", name: "front", x: best.map((row) => row[cost]), y: best.map((row) => row.top1),
    line: { shape: "hv", color: ink("faint"), width: 1.5 }, hoverinfo: "skip",
  };
}

function costFigure(page) {
  const { cost, log } = page.view;
  const known = page.study.networks.filter((row) => row[cost] !== null && row.top1 !== null);
  if (!known.length) return page.study.networks.some((row) => row.top1 !== null) ? "Not measured in this study." : "No trial has finished yet: there is nothing to draw.";
  const best = frontOf(known, cost);
  const drawn = known.filter(page.kept);
  const ordered = ["step", "side"].includes(cost); // no costs, so that nothing is a front
  const data = ordered ? [] : [frontLine(best, cost)];
  data.push(...(known[0].curve === CLOUD ? cloud(page, drawn, new Set(best), cost) : byCurve(page, drawn, cost)));
  const x = axis(page.study.axes[cost], { type: log ? "log" : "linear", ...(log ? { minor: { showgrid: false }, dtick: "D2" } : {}) });
  return { data, height: narrow() ? 420 : 460, layout: { xaxis: x, yaxis: axis("Top-1 of these trainings (%)", { type: page.view.logScore ? "log" : "linear" }), uirevision: `${cost}${log}${page.view.logScore}` } };
}

function cloud(page, rows, best, cost) {
  const { colours, confirmed } = page.study;
  const parts = [rows.filter((row) => !best.has(row)), rows.filter((row) => best.has(row))];
  const data = [
    points("behind the front", parts[0], cost, { color: OTHERS, symbol: "circle" }, { size: rows.length > 400 ? 5 : 8, opacity: rows.length > 400 ? 0.55 : 0.85 }),
    points("on the front", parts[1], cost, { color: coloured(colours[0]), symbol: "circle" }, { size: 9 }),
  ];
  const second = page.study.looks.filter((look) => look.second).map((look) => ({ ...page.study.networks[look.network], top1: look.top1, spread: look.spread, seeds: look.scores.length })).filter((row) => row[cost] !== null && page.kept(page.study.networks[row.index]));
  if (second.length) data.push(points("trained longer", second, cost, { color: coloured(colours[1]), symbol: "diamond" }, { size: 10 }));
  const early = page.study.networks.filter((row) => row.top1 === null && row.so_far !== null && row.so_far !== undefined && row[cost] !== null && page.kept(row)).map((row) => ({ ...row, top1: row.so_far }));
  if (early.length) data.push(points("stopped or under way", early, cost, { color: OTHERS, symbol: "circle-open" }, { size: 7, trace: { visible: "legendonly" } }));
  return data.filter((trace) => trace.x.length);
}

function byCurve(page, rows, cost) {
  const all = looks(distinct(page.study.networks.map((row) => row.curve)), page.study.colours);
  return distinct(rows.map((row) => row.curve)).map((name) => {
    const own = rows.filter((row) => row.curve === name);
    return points(name, own, cost, all.get(name), { mode: own.length > 1 ? "lines+markers" : "markers", dash: "dot" });
  });
}

function paperFigure(page) {
  const cost = page.study.paper.costs.includes(page.view.cost) ? page.view.cost : page.study.paper.costs[0];
  const known = page.study.points.filter((row) => row[cost] !== null && row.top1 !== null);
  if (!known.length) return `The paper prints no ${page.study.axes[cost]} for these networks.`;
  const all = looks(distinct(page.study.points.map((row) => row.curve)), page.study.colours);
  const data = distinct(known.map((row) => row.curve)).map((name) => {
    const own = known.filter((row) => row.curve === name);
    const { color, symbol } = all.get(name);
    const label = (row) => [row.network ?? row.label, ""].find(Boolean) || name;
    return {
      type: "scatter", mode: "lines+markers", name: plain(name), x: own.map((row) => row[cost]), y: own.map((row) => row.top1),
      line: { color, width: name.startsWith("HIRI-ViT") ? 2 : 1.2, dash: name.startsWith("HIRI-ViT") ? "solid" : "dot" }, marker: { color, symbol, size: 6 },
      text: own.map((row) => `<b>${plain(label(row))}</b><br>Top-1 ${number(row.top1, 1)} %, published<br>${plain(page.study.axes[cost])}: ${number(row[cost], 1)}`),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  const type = page.view.log ? "log" : "linear";
  return { data, height: narrow() ? 420 : 460, layout: { xaxis: axis(page.study.axes[cost], { type, ...(page.view.log ? { dtick: "D2" } : {}) }), yaxis: axis("Top-1 on ImageNet-1K (%)"), uirevision: `${cost}${page.view.log}` } };
}

// ---- learning

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
  const all = names.length <= NAMED ? looks(distinct(page.study.networks.map((row) => row.name)), page.study.colours) : null;
  const seen = new Set();
  const data = [...trials].sort((a, b) => (all ? 0 : a.of.front - b.of.front)).map((trial) => {
    const group = all ? trial.name : trial.of.front ? "on the front" : "others";
    const color = all ? all.get(trial.name).color : trial.of.front ? coloured(page.study.colours[0]) : OTHERS;
    const first = !seen.has(group) && seen.add(group);
    return {
      type: "scatter", mode: trial.curve.length > 1 ? "lines" : "markers", name: plain(cut(group, 44)), legendgroup: group, showlegend: Boolean(first),
      x: trial.curve.map((_, at) => at + 1), y: trial.curve, line: { color, width: all || trial.of.front ? 1.8 : 1 }, marker: { color, size: 5 },
      opacity: all || trial.of.front ? 1 : 0.5, customdata: trial.curve.map(() => trial.trial),
      text: trial.curve.map((top1, at) => `<b>${lines(cut(trial.name, 400))}</b><br>seed ${plain(trial.seed)}, epoch ${at + 1}: top-1 ${number(top1, 2)} %`),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  const longest = Math.max(...trials.map((trial) => trial.curve.length));
  const { chance } = page.study;
  const low = Math.min(...trials.flatMap((trial) => trial.curve));
  if (low < 4 * chance) data.push({ type: "scatter", mode: "lines", name: `chance, ${number(chance, 1)} %`, x: [1, Math.max(2, longest)], y: [chance, chance], line: { color: ink("faint"), width: 1, dash: "dot" }, hoverinfo: "skip" });
  return { data, height: narrow() ? 380 : 400, layout: { xaxis: axis("Epoch", { dtick: longest <= 12 ? 1 : undefined }), yaxis: axis("Top-1 (%)") } };
}

// ---- cost by part

function barred(page) {
  const known = page.study.networks.filter((row) => row.parts.length && page.kept(row));
  if (known.length <= MOST_BARS) return known;
  const front = known.filter((row) => row.front);
  return front.length ? front.slice(0, MOST_BARS) : known.slice(0, MOST_BARS);
}

function partsFigure(page) {
  const rows = barred(page);
  const { unit, share } = page.parts;
  if (!rows.length) return page.study.networks.length ? "Costs by part are not in this ledger: it was begun before they were kept, or the filter leaves none." : "No network has been counted yet.";
  const at = unit === "gflops" ? 2 : 1;
  const digits = unit === "gflops" ? 3 : 2;
  const whole = rows.map((row) => row.parts.reduce((sum, part) => sum + part[at], 0) || 1);
  const names = partNames(rows);
  const colour = partColours(names, page.study.colours);
  const labels = rows.map((row) => row.name);
  const data = names.map((name) => {
    const values = rows.map((row) => row.parts.find((part) => part[0] === name)?.[at] ?? null);
    return {
      type: "bar", orientation: "h", name: plain(name), y: rows.map((_, n) => n), x: values.map((value, n) => (value === null || !share ? value : (100 * value) / whole[n])),
      marker: { color: colour.get(name), line: { color: ink("ground"), width: 1 } }, customdata: rows.map((row) => row.index),
      text: values.map((value, n) => `<b>${lines(cut(labels[n], 200))}</b><br>${plain(name)}: ${number(value, digits)} ${unit === "gflops" ? "GFLOPs" : "M params"} (${number((100 * value) / whole[n], 1)} %)`),
      hovertemplate: "%{text}<extra></extra>", textposition: "none",
    };
  });
  const long = narrow() ? 17 : 40;
  const y = axis("", { tickvals: rows.map((_, n) => n), ticktext: labels.map((label) => plain(cut(label, long))), autorange: "reversed", showgrid: false });
  const title = share ? "Share of the network (%)" : page.study.axes[unit];
  return { data, height: 130 + 30 * rows.length + 20 * Math.ceil(names.length / (narrow() ? 3 : 9)), layout: { barmode: "stack", bargap: 0.35, xaxis: axis(title), yaxis: y, legend: { ...layout().legend, traceorder: "normal" }, uirevision: `${unit}${share}` } };
}

// In the order of the networks: a part that only some have stands behind the part that it follows there.
function partNames(rows) {
  const names = [];
  for (const row of rows) {
    let place = 0;
    for (const [name] of row.parts) {
      const known = names.indexOf(name);
      if (known < 0) names.splice(place, 0, name);
      place = (known < 0 ? place : known) + 1;
    }
  }
  return names;
}

// Stages and what else is large have colours; what leads from one to the next is grey.
function partColours(names, colours) {
  const strong = names.filter((name) => !name.startsWith("down"));
  const greys = dark() ? ["#6d6f6e", "#8b8d8b"] : ["#c9c8c1", "#adaca5"];
  const between = names.filter((name) => name.startsWith("down"));
  const palette = ["#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#8C6BB1", "#7A6A4F"];
  return new Map([
    ...strong.map((name, at) => [name, coloured(palette[at % palette.length] ?? colours[at])]),
    ...between.map((name, at) => [name, greys[at % greys.length]]),
  ]);
}

// ---- seeds

function seedsFigure(page) {
  const looks = page.study.looks.filter((look) => page.kept(page.study.networks[look.network]));
  if (!looks.length) return "Each network has one seed, or none that has finished: nothing is known of luck.";
  const shown = looks.length > MOST_BARS ? [...looks].sort((a, b) => b.top1 - a.top1).slice(0, MOST_BARS) : looks;
  const long = narrow() ? 17 : 44;
  const label = (look) => `${cut(page.study.networks[look.network].name, long)}`;
  const y = shown.map((_, at) => at);
  const [blue, orange] = [coloured(page.study.colours[0]), coloured(page.study.colours[1])];
  const said = shown.map((look) => `<b>${lines(cut(page.study.networks[look.network].name, 300))}</b><br>mean ${number(look.top1, 2)} %, ${plural(look.scores.length, "seed")}${look.low === null ? "" : `<br>95 % interval ${number(look.low, 2)} to ${number(look.high, 2)}`}`);
  const custom = shown.map((look) => look.network);
  const colour = shown.map((look) => (look.second ? orange : blue));
  const scores = shown.flatMap((look, at) => look.scores.map((score) => ({ at, score, look })));
  const data = [
    { type: "scatter", mode: "lines", name: "95 % interval of the mean", x: shown.flatMap((look) => [look.low, look.high, null]), y: y.flatMap((at) => [at, at, null]), line: { color: ink("faint"), width: 2.5 }, hoverinfo: "skip" },
    { type: "scatter", mode: "markers", name: "a seed", x: scores.map((one) => one.score), y: scores.map((one) => one.at), customdata: scores.map((one) => one.look.network), marker: { symbol: "circle-open", size: 8, color: scores.map((one) => colour[one.at]), line: { width: 1.5 } }, text: scores.map((one) => `${said[one.at]}<br>this seed: ${number(one.score, 2)} %`), hovertemplate: "%{text}<extra></extra>" },
    { type: "scatter", mode: "markers", name: "mean", x: shown.map((look) => look.top1), y, customdata: custom, text: said, hovertemplate: "%{text}<extra></extra>", marker: { symbol: "line-ns", size: 15, color: colour, line: { width: 2.5, color: colour } } },
  ];
  const all = scores.map((one) => one.score);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = Math.max(0.5, 0.45 * (high - low));
  const x = axis("Top-1 (%)", { range: [low - room, high + room] });
  return { data, height: 110 + 34 * shown.length, layout: { xaxis: x, yaxis: axis("", { tickvals: y, ticktext: shown.map((look) => plain(label(look))), range: [shown.length - 0.4, -0.6] }) } };
}

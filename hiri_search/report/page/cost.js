// Figures of the score against cost: the networks of this study, and the curves of the paper.

const CLOUD = "networks"; // curve of the networks of a search
const GREY = "#9a9a94";
const ORDERED_AXES = ["step", "side"]; // these axes are no costs, so that there is no Pareto front

const curveStyles = (names, colours) =>
  new Map(
    names.map((name, i) => [
      name,
      { color: themeColor(colours[i % colours.length]), symbol: SYMBOLS[i % SYMBOLS.length] },
    ]),
  );

// A value with the unit of its score, and the value of one row with its spread.
const valueText = (value, { digits, unit }) => `${number(value, digits)}${unit && ` ${unit}`}`;
const scoreText = (row, score) =>
  valueText(row[score.key], score) + (row.spread === null ? "" : ` ± ${number(row.spread, score.digits)}`);

function networkTooltip(row, score) {
  const costs = [
    [row.gflops, 3, "GFLOPs"],
    [row.params_m, 2, "M params"],
    [row.ms, 2, "ms"],
  ].filter(([value]) => hasValue(value));
  const spec = row.spec === row.name ? "" : `<br><i>${wrapped(row.spec)}</i>`;
  const result = row.seeds
    ? `${score.label} ${scoreText(row, score)}, ${plural(row.seeds, "seed")}`
    : (row.state ?? "not trained");
  const costText = costs.map(([value, digits, unit]) => `${number(value, digits)} ${unit}`).join(" · ");
  return `<b>${wrapped(truncate(row.name, 400))}</b>${spec}<br>${escaped(result)}<br>${costText}`;
}

function networkTrace(name, rows, { cost, score }, style, options = {}) {
  const spreads = rows.map((row) => row.spread ?? 0);
  const errorBars = { type: "data", array: spreads, thickness: 1, width: 3, color: style.color };
  return {
    type: rows.length > WEBGL_POINTS && hasWebgl() ? "scattergl" : "scatter",
    mode: options.mode ?? "markers",
    name: escaped(truncate(name, 44)),
    x: rows.map((row) => row[cost]),
    y: rows.map((row) => row[score.key]),
    text: rows.map((row) => networkTooltip(row, score)),
    customdata: rows.map((row) => row.index),
    hovertemplate: "%{text}<extra></extra>",
    error_y: spreads.some(Boolean) ? errorBars : undefined,
    line: { width: 1.4, color: style.color, dash: options.dash },
    marker: { ...style, size: options.size ?? 9, opacity: options.opacity ?? 1, line: { width: 0 } },
    visible: options.visible ?? true,
  };
}

// The non-dominated rows, cheapest first; the same rule as `front` in Python, for any cost.
function paretoFront(rows, { cost, score }) {
  const loss = (row) => (score.up ? -row[score.key] : row[score.key]);
  let last;
  const isEqual = (row) => last && row[cost] === last[cost] && loss(row) === loss(last);
  return [...rows]
    .sort((a, b) => a[cost] - b[cost] || loss(a) - loss(b))
    .filter((row) => (!last || loss(row) < loss(last) || isEqual(row)) && (last = row));
}

function frontLine(front, { cost, score }) {
  return {
    type: "scatter",
    mode: "lines",
    name: "Pareto front",
    x: front.map((row) => row[cost]),
    y: front.map((row) => row[score.key]),
    line: { shape: "hv", color: cssColor("faint"), width: 1.5 },
    hoverinfo: "skip",
  };
}

function costFigure(page) {
  const { cost, logCost, logScore } = page.view;
  const { score } = page.study;
  const axes = { cost, score };
  const rows = page.study.networks.filter((row) => row[cost] !== null && row[score.key] !== null);
  if (!rows.length)
    return page.study.networks.some((row) => row[score.key] !== null)
      ? "This cost was not measured in this study."
      : "No trial has finished yet.";
  const front = paretoFront(rows, axes);
  const matching = rows.filter(page.matches);
  const data = ORDERED_AXES.includes(cost) ? [] : [frontLine(front, axes)];
  const isCloud = rows[0].curve === CLOUD;
  data.push(...(isCloud ? cloudTraces(page, matching, new Set(front), axes) : curveTraces(page, matching, axes)));
  return {
    data,
    height: isNarrow() ? 420 : 460,
    layout: {
      xaxis: costAxis(page, cost),
      yaxis: axis(`${score.axis}, these trainings`, { type: logScore ? "log" : "linear" }),
      uirevision: `${cost}${logCost}${logScore}`,
    },
  };
}

function costAxis(page, cost) {
  const log = { type: "log", minor: { showgrid: false }, dtick: "D2" };
  return axis(page.study.axes[cost], page.view.logCost ? log : { type: "linear" });
}

function cloudTraces(page, rows, front, axes) {
  const { cost, score } = axes;
  const [blue, orange] = page.study.colours.map(themeColor);
  const size = rows.length > 400 ? { size: 5, opacity: 0.55 } : { size: 8, opacity: 0.85 };
  const dominated = rows.filter((row) => !front.has(row));
  const onFront = rows.filter((row) => front.has(row));
  const confirmed = page.study.seeds
    .filter((entry) => entry.confirmation)
    .map((entry) => ({
      ...page.study.networks[entry.network],
      [score.key]: entry[score.key],
      spread: entry.spread,
      seeds: entry.scores.length,
    }))
    .filter((row) => row[cost] !== null && page.matches(row));
  const unfinished = page.study.networks
    .filter((row) => row[score.key] === null && hasValue(row.so_far) && row[cost] !== null && page.matches(row))
    .map((row) => ({ ...row, [score.key]: row.so_far }));
  const hidden = { size: 7, visible: "legendonly" };
  const onVal = score.key === page.study.curve_score.key ? "" : `: ${page.study.curve_score.label}`;
  return [
    networkTrace("dominated", dominated, axes, { color: GREY, symbol: "circle" }, size),
    networkTrace("on the Pareto front", onFront, axes, { color: blue, symbol: "circle" }),
    networkTrace("confirmation", confirmed, axes, { color: orange, symbol: "diamond" }, { size: 10 }),
    networkTrace(`stopped or unfinished${onVal}`, unfinished, axes, { color: GREY, symbol: "circle-open" }, hidden),
  ].filter((trace) => trace.x.length);
}

function curveTraces(page, rows, axes) {
  const styles = curveStyles(distinct(page.study.networks.map((row) => row.curve)), page.study.colours);
  return distinct(rows.map((row) => row.curve)).map((name) => {
    const curve = rows.filter((row) => row.curve === name);
    const mode = curve.length > 1 ? "lines+markers" : "markers";
    return networkTrace(name, curve, axes, styles.get(name), { mode, dash: "dot" });
  });
}

function paperFigure(page) {
  const { costs, score } = page.study.paper;
  const cost = costs.includes(page.view.cost) ? page.view.cost : costs[0];
  const rows = page.study.paperPoints.filter((row) => row[cost] !== null && row[score.key] !== null);
  if (!rows.length) return `The paper does not print this cost for these networks: ${page.study.axes[cost]}.`;
  const styles = curveStyles(distinct(page.study.paperPoints.map((row) => row.group ?? row.curve)), page.study.colours);
  const data = distinct(rows.map((row) => row.curve)).map((name) => {
    const curve = rows.filter((row) => row.curve === name);
    const { group } = curve[0];
    const { color, symbol: own } = styles.get(group ?? name);
    const isOurs = name.startsWith("HIRI-ViT");
    const symbol = group ? (isOurs ? "star" : "circle-open") : own;
    return {
      type: "scatter",
      mode: group && !isOurs ? "markers" : "lines+markers",
      name: escaped(name),
      x: curve.map((row) => row[cost]),
      y: curve.map((row) => row[score.key]),
      line: { color, width: isOurs ? 2 : 1.2, dash: isOurs ? "solid" : "dot" },
      marker: { color, symbol, size: group ? (isOurs ? 11 : 7) : 6 },
      text: curve.map((row) =>
        tooltip(
          row.network || row.label || name,
          `${score.title} ${valueText(row[score.key], score)}, published`,
          `${page.study.axes[cost]}: ${number(row[cost], 1)}`,
        ),
      ),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  return {
    data,
    height: isNarrow() ? 420 : 460,
    layout: {
      xaxis: costAxis(page, cost),
      yaxis: axis(`${score.title} on ${score.data} (${score.unit})`),
      uirevision: `${cost}${page.view.logCost}`,
    },
  };
}

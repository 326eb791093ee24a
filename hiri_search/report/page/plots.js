// Accuracy against cost: this study's networks, and the paper's curves.

const CLOUD = "networks"; // what many networks without a curve are called
const OTHERS = "#9a9a94";

const looks = (names, colours) =>
  new Map(
    names.map((name, at) => [
      name,
      {
        color: coloured(colours[at % colours.length]),
        symbol: SYMBOLS[at % SYMBOLS.length],
      },
    ]),
  );
const distinct = (values) => [...new Set(values)];
const worth = (row) => `${number(row.top1, 2)} %${row.spread === null ? "" : ` ± ${number(row.spread, 2)}`}`;

function ofNetwork(row) {
  const costs = [
    [row.gflops, 3, "GFLOPs"],
    [row.params_m, 2, "M params"],
    [row.ms, 2, "ms"],
  ].filter(([value]) => value !== null && value !== undefined);
  const spec = row.spec === row.name ? "" : `<br><i>${lines(row.spec)}</i>`;
  const score = row.seeds ? `top-1 ${worth(row)}, ${plural(row.seeds, "seed")}` : (row.state ?? "not trained");
  const known = costs.map(([value, digits, unit]) => `${number(value, digits)} ${unit}`).join(" · ");
  return `<b>${lines(cut(row.name, 400))}</b>${spec}<br>${plain(score)}<br>${known}`;
}

function points(name, rows, cost, look, more = {}) {
  const spreads = rows.map((row) => row.spread ?? 0);
  const bars = spreads.some(Boolean)
    ? { type: "data", array: spreads, thickness: 1, width: 3, color: look.color }
    : undefined;
  return {
    type: rows.length > MANY_POINTS && webgl() ? "scattergl" : "scatter",
    mode: more.mode ?? "markers",
    name: plain(cut(name, 44)),
    x: rows.map((row) => row[cost]),
    y: rows.map((row) => row.top1),
    text: rows.map(ofNetwork),
    customdata: rows.map((row) => row.index),
    hovertemplate: "%{text}<extra></extra>",
    error_y: bars,
    line: { width: 1.4, color: look.color, dash: more.dash },
    marker: {
      color: look.color,
      symbol: look.symbol,
      size: more.size ?? 9,
      opacity: more.opacity ?? 1,
      line: { width: more.edge ?? 0, color: look.color },
    },
    ...more.trace,
  };
}

// Nothing is cheaper and as good, nothing better and as cheap: as the tables have it, for any cost.
function frontOf(rows, cost) {
  let best = -Infinity;
  return [...rows]
    .sort((a, b) => a[cost] - b[cost] || b.top1 - a.top1)
    .filter((row) => row.top1 > best && ((best = row.top1), true));
}

function frontLine(best, cost) {
  return {
    type: "scatter",
    mode: "lines",
    name: "front",
    x: best.map((row) => row[cost]),
    y: best.map((row) => row.top1),
    line: { shape: "hv", color: ink("faint"), width: 1.5 },
    hoverinfo: "skip",
  };
}

function costFigure(page) {
  const { cost, log } = page.view;
  const known = page.study.networks.filter((row) => row[cost] !== null && row.top1 !== null);
  if (!known.length)
    return page.study.networks.some((row) => row.top1 !== null)
      ? "Not measured in this study."
      : "No trial has finished yet: there is nothing to draw.";
  const best = frontOf(known, cost);
  const drawn = known.filter(page.kept);
  const ordered = ["step", "side"].includes(cost); // no costs, so that nothing is a front
  const data = ordered ? [] : [frontLine(best, cost)];
  data.push(...(known[0].curve === CLOUD ? cloud(page, drawn, new Set(best), cost) : byCurve(page, drawn, cost)));
  const x = axis(page.study.axes[cost], {
    type: log ? "log" : "linear",
    ...(log ? { minor: { showgrid: false }, dtick: "D2" } : {}),
  });
  return {
    data,
    height: narrow() ? 420 : 460,
    layout: {
      xaxis: x,
      yaxis: axis("Top-1 of these trainings (%)", { type: page.view.logScore ? "log" : "linear" }),
      uirevision: `${cost}${log}${page.view.logScore}`,
    },
  };
}

function cloud(page, rows, best, cost) {
  const { colours, confirmed } = page.study;
  const parts = [rows.filter((row) => !best.has(row)), rows.filter((row) => best.has(row))];
  const data = [
    points(
      "behind the front",
      parts[0],
      cost,
      { color: OTHERS, symbol: "circle" },
      { size: rows.length > 400 ? 5 : 8, opacity: rows.length > 400 ? 0.55 : 0.85 },
    ),
    points("on the front", parts[1], cost, { color: coloured(colours[0]), symbol: "circle" }, { size: 9 }),
  ];
  const second = page.study.looks
    .filter((look) => look.second)
    .map((look) => ({
      ...page.study.networks[look.network],
      top1: look.top1,
      spread: look.spread,
      seeds: look.scores.length,
    }))
    .filter((row) => row[cost] !== null && page.kept(page.study.networks[row.index]));
  if (second.length)
    data.push(points("trained longer", second, cost, { color: coloured(colours[1]), symbol: "diamond" }, { size: 10 }));
  const early = page.study.networks
    .filter(
      (row) =>
        row.top1 === null && row.so_far !== null && row.so_far !== undefined && row[cost] !== null && page.kept(row),
    )
    .map((row) => ({ ...row, top1: row.so_far }));
  if (early.length)
    data.push(
      points(
        "stopped or under way",
        early,
        cost,
        { color: OTHERS, symbol: "circle-open" },
        { size: 7, trace: { visible: "legendonly" } },
      ),
    );
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
      type: "scatter",
      mode: "lines+markers",
      name: plain(name),
      x: own.map((row) => row[cost]),
      y: own.map((row) => row.top1),
      line: {
        color,
        width: name.startsWith("HIRI-ViT") ? 2 : 1.2,
        dash: name.startsWith("HIRI-ViT") ? "solid" : "dot",
      },
      marker: { color, symbol, size: 6 },
      text: own.map((row) =>
        told(
          label(row),
          `Top-1 ${number(row.top1, 1)} %, published`,
          `${page.study.axes[cost]}: ${number(row[cost], 1)}`,
        ),
      ),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  const type = page.view.log ? "log" : "linear";
  return {
    data,
    height: narrow() ? 420 : 460,
    layout: {
      xaxis: axis(page.study.axes[cost], { type, ...(page.view.log ? { dtick: "D2" } : {}) }),
      yaxis: axis("Top-1 on ImageNet-1K (%)"),
      uirevision: `${cost}${page.view.log}`,
    },
  };
}

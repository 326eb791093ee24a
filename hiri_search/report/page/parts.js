// Figure of the cost of each part of a network.

const MAX_BARS = 30;

function networksWithBars(page) {
  const rows = page.study.networks.filter((row) => row.parts.length && page.matches(row));
  const front = rows.filter((row) => row.front);
  return (rows.length > MAX_BARS && front.length ? front : rows).slice(0, MAX_BARS);
}

function partsFigure(page) {
  const rows = networksWithBars(page);
  const { unit, asShare } = page.partsView;
  if (!rows.length)
    return page.study.networks.length ? "No network matches the filter." : "No network has been counted yet.";
  const [cost, unitText, digits] = unit === "gflops" ? [2, "GFLOPs", 3] : [1, "M params", 2];
  const totals = rows.map((row) => row.parts.reduce((sum, part) => sum + part[cost], 0) || 1);
  const names = partNames(rows);
  const colors = partColors(names);
  const data = names.map((name) => {
    const values = rows.map((row) => row.parts.find((part) => part[0] === name)?.[cost] ?? null);
    return {
      type: "bar",
      orientation: "h",
      name: escaped(name),
      y: rows.map((_, i) => i),
      x: values.map((value, i) => (value === null || !asShare ? value : (100 * value) / totals[i])),
      marker: { color: colors.get(name), line: { color: cssColor("ground"), width: 1 } },
      customdata: rows.map((row) => row.index),
      text: values.map((value, i) => {
        const share = number((100 * value) / totals[i], 1);
        return tooltip(rows[i].name, `${name}: ${number(value, digits)} ${unitText} (${share} %)`);
      }),
      hovertemplate: "%{text}<extra></extra>",
      textposition: "none",
    };
  });
  const y = axis("", {
    tickvals: rows.map((_, i) => i),
    ticktext: rows.map((row) => networkLabel(row.name)),
    autorange: "reversed",
    showgrid: false,
  });
  return {
    data,
    height: 130 + rowHeight() * rows.length + 20 * Math.ceil(names.length / (isNarrow() ? 3 : 9)),
    layout: {
      barmode: "stack",
      bargap: 0.35,
      xaxis: axis(asShare ? "Share of the network (%)" : page.study.axes[unit]),
      yaxis: y,
      legend: { ...layout().legend, traceorder: "normal" },
      uirevision: `${unit}${asShare}`,
    },
  };
}

// Parts in the order of the networks: a part that only some networks have follows its predecessor.
function partNames(rows) {
  const names = [];
  for (const row of rows) {
    let next = 0;
    for (const [name] of row.parts) {
      const index = names.indexOf(name);
      if (index < 0) names.splice(next, 0, name);
      next = (index < 0 ? next : index) + 1;
    }
  }
  return names;
}

// Colours for stem, stages and head; greys for the downsampling between stages.
function partColors(names) {
  const greys = isDark() ? ["#6d6f6e", "#8b8d8b"] : ["#c9c8c1", "#adaca5"];
  const palette = ["#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#8C6BB1", "#7A6A4F"];
  const between = names.filter((name) => name.startsWith("down"));
  const others = names.filter((name) => !name.startsWith("down"));
  return new Map([
    ...others.map((name, i) => [name, themeColor(palette[i % palette.length])]),
    ...between.map((name, i) => [name, greys[i % greys.length]]),
  ]);
}

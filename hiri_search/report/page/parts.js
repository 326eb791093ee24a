// Where the cost of a network is.

const MOST_BARS = 30;

function barred(page) {
  const known = page.study.networks.filter((row) => row.parts.length && page.kept(row));
  if (known.length <= MOST_BARS) return known;
  const front = known.filter((row) => row.front);
  return front.length ? front.slice(0, MOST_BARS) : known.slice(0, MOST_BARS);
}

function partsFigure(page) {
  const rows = barred(page);
  const { unit, share } = page.parts;
  if (!rows.length)
    return page.study.networks.length
      ? "Costs by part are not in this ledger: it was begun before they were kept, or the filter leaves none."
      : "No network has been counted yet.";
  const at = unit === "gflops" ? 2 : 1;
  const words = unit === "gflops" ? "GFLOPs" : "M params";
  const digits = unit === "gflops" ? 3 : 2;
  const whole = rows.map((row) => row.parts.reduce((sum, part) => sum + part[at], 0) || 1);
  const names = partNames(rows);
  const colour = partColours(names, page.study.colours);
  const labels = rows.map((row) => row.name);
  const data = names.map((name) => {
    const values = rows.map((row) => row.parts.find((part) => part[0] === name)?.[at] ?? null);
    return {
      type: "bar",
      orientation: "h",
      name: plain(name),
      y: rows.map((_, n) => n),
      x: values.map((value, n) => (value === null || !share ? value : (100 * value) / whole[n])),
      marker: { color: colour.get(name), line: { color: ink("ground"), width: 1 } },
      customdata: rows.map((row) => row.index),
      text: values.map((value, n) =>
        told(labels[n], `${name}: ${number(value, digits)} ${words} (${number((100 * value) / whole[n], 1)} %)`),
      ),
      hovertemplate: "%{text}<extra></extra>",
      textposition: "none",
    };
  });
  const y = axis("", {
    tickvals: rows.map((_, n) => n),
    ticktext: labels.map(label),
    autorange: "reversed",
    showgrid: false,
  });
  const title = share ? "Share of the network (%)" : page.study.axes[unit];
  return {
    data,
    height: 130 + rowHeight() * rows.length + 20 * Math.ceil(names.length / (narrow() ? 3 : 9)),
    layout: {
      barmode: "stack",
      bargap: 0.35,
      xaxis: axis(title),
      yaxis: y,
      legend: { ...layout().legend, traceorder: "normal" },
      uirevision: `${unit}${share}`,
    },
  };
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

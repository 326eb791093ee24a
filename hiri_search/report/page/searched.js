// The figures that only a search has.

function importanceFigure(page) {
  const shares = page.study.importances[page.view.objective];
  const named = shares ? Object.entries(shares).sort((a, b) => a[1] - b[1]) : [];
  if (!named.length) return "Too few networks have been trained to say what matters.";
  const shown = named.slice(-20);
  const data = [
    {
      type: "bar",
      orientation: "h",
      y: shown.map(([name]) => plain(inWords(name))),
      x: shown.map(([, share]) => 100 * share),
      marker: { color: coloured(page.study.colours[0]) },
      text: shown.map(([name, share]) => `${number(100 * share, 1)} %`),
      textposition: "outside",
      cliponaxis: false,
      hovertemplate: "%{y}: %{x:.1f} %<extra></extra>",
    },
  ];
  return {
    data,
    height: 90 + 24 * shown.length,
    layout: {
      bargap: 0.3,
      xaxis: axis("Share (%)", { rangemode: "tozero" }),
      yaxis: axis(""),
      margin: { l: 48, r: 44, t: 10, b: 44 },
    },
  };
}

const LETTERS = {
  w: "width",
  n: "depth",
  e: "expansion",
  d: "width of a head",
  h: "heads",
  r: "reduction",
  which: "kind",
};

// `3.cffn.e` is the expansion of part 3, where that is of kind cffn; `3.` alone would be all of it.
function inWords(name) {
  const words = name.split(".");
  const last = words.pop();
  const place = words.filter((word) => /^\d+$/.test(word));
  const kinds = words.filter((word) => !/^\d+$/.test(word));
  const where = place.length ? `part ${place.join(".")}` : "all";
  return `${where}${kinds.length ? ` (${kinds.join(" ")})` : ""}: ${LETTERS[last] ?? last}`;
}

const NOT_THERE = "–";

// Each line is a network; what is not decided in it runs along the bottom.
function parallelFigure(page) {
  const { decisions, axes } = page.study;
  const rows = page.study.networks.filter((row) => row.so_far !== null && row.so_far !== undefined && page.kept(row));
  if (rows.length < 2) return "Fewer than two networks have been trained.";
  if (!webgl()) return "This browser has no WebGL, which parallel coordinates are drawn with.";
  const dimensions = Object.entries(decisions)
    .filter(([, one]) => one.options.length > 1)
    .map(([name, one]) => {
      const missing = rows.some((row) => one.at[row.index] === null);
      const options = one.options.map(String);
      return {
        label: plain(inWords(name).replace("part ", "")),
        values: rows.map((row) => one.at[row.index] ?? -1),
        range: [missing ? -1 : 0, options.length - 1],
        tickvals: [...(missing ? [-1] : []), ...options.keys()],
        ticktext: [...(missing ? [NOT_THERE] : []), ...options].map(plain),
      };
    });
  for (const cost of ["gflops", "params_m", "ms"]) {
    const values = rows.map((row) => row[cost]);
    if (values.every((value) => value !== null)) dimensions.push({ label: axes[cost].replace(/ \(.*/, ""), values });
  }
  dimensions.push({ label: "Top-1 so far", values: rows.map((row) => row.so_far) });
  const scale = dark()
    ? [
        [0, "#39424a"],
        [0.5, "#3aa0dd"],
        [1, "#f5d06a"],
      ]
    : [
        [0, "#d5d8da"],
        [0.5, "#56B4E9"],
        [1, "#003a61"],
      ];
  const data = [
    {
      type: "parcoords",
      dimensions,
      line: {
        color: rows.map((row) => row.so_far),
        colorscale: scale,
        showscale: true,
        colorbar: { title: { text: "Top-1" }, thickness: 12, outlinewidth: 0 },
      },
      labelfont: { size: 12, color: ink("text") },
      tickfont: { size: 11, color: ink("muted") },
      rangefont: { size: 1, color: "rgba(0,0,0,0)" },
      labelangle: dimensions.length > 8 ? -30 : 0,
      unselected: { line: { opacity: 0.06 } },
    },
  ];
  return {
    data,
    height: 420,
    width: (narrow() ? 84 : 54) * dimensions.length,
    layout: { margin: { l: 70, r: 40, t: 100, b: 24 } },
  };
}

function volumeFigure(page) {
  const { volume } = page.study;
  if (!volume.length) return "No trial has finished yet.";
  const data = [
    {
      type: "scatter",
      mode: "lines",
      x: volume.map((_, at) => at + 1),
      y: volume,
      line: { shape: "hv", color: coloured(page.study.colours[0]), width: 2 },
      hovertemplate: "behind %{x} trials: %{y:.1f} %<extra></extra>",
    },
  ];
  return {
    data,
    height: 320,
    layout: {
      xaxis: axis("Finished trials"),
      yaxis: axis("Hypervolume (%)", { rangemode: "tozero" }),
    },
  };
}

function searchSections(owner) {
  const searching = (page) => page.study.search;
  const importance = new Figure({ label: "Importance of each decision", make: () => importanceFigure(owner) });
  const pick = choice("For", [["top1", "top-1"]], "top1", (value) => owner.look({ objective: value }));
  const parallel = new Figure({
    label: "Decisions, costs and top-1 of each network",
    make: () => parallelFigure(owner),
    scrolls: true,
  });
  const volume = new Figure({ label: "Hypervolume over trials", make: () => volumeFigure(owner) });
  const [second, proxies] = [el("div"), el("div")];
  return [
    new Section(
      "second",
      "A second look",
      (page) => page.study.believed,
      (page) => page.study.confirmed.rows.length,
      [second],
      (page) => second.replaceChildren(shownTable("A second look", page.study.confirmed)),
    ),
    new Section(
      "importance",
      "What matters",
      "How far each decision sets the best networks apart from the others (PED-ANOVA); the shares add up to 100 %." +
        " With few trials it is a hint.",
      searching,
      [el("div", { class: "controls" }, pick.node), importance],
      (page) => objectives(pick.select, page),
    ),
    new Section(
      "parallel",
      "Every decision",
      "Each line is a network, from its decisions to what it came to. Drag along an axis to pick lines," +
        " and drag an axis to move it.",
      searching,
      [parallel],
    ),
    new Section(
      "found",
      "Found when",
      "The share of the last dominated hypervolume that had been found behind each finished trial.",
      searching,
      [volume],
    ),
    new Section(
      "zero_cost",
      "Zero-cost proxies",
      "Kendall's tau of each proxy, and of the costs, with top-1.",
      (page) => page.study.zero_cost.rows.length,
      [proxies],
      (page) => proxies.replaceChildren(shownTable("Proxies", page.study.zero_cost)),
    ),
  ];
}

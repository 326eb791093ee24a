// Figures and sections that only a search has.

function importanceFigure(page) {
  const shares = Object.entries(page.study.importances[page.view.objective] ?? {});
  if (!shares.length) return "Too few networks have been trained to estimate the importance of decisions.";
  const largest = shares.sort((a, b) => a[1] - b[1]).slice(-20);
  const data = [
    {
      type: "bar",
      orientation: "h",
      y: largest.map(([name]) => escaped(decisionLabel(name))),
      x: largest.map(([, share]) => 100 * share),
      marker: { color: themeColor(page.study.colours[0]) },
      text: largest.map(([, share]) => `${number(100 * share, 1)} %`),
      textposition: "outside",
      cliponaxis: false,
      hovertemplate: "%{y}: %{x:.1f} %<extra></extra>",
    },
  ];
  return {
    data,
    height: 90 + 24 * largest.length,
    layout: {
      bargap: 0.3,
      xaxis: axis("Share (%)", { rangemode: "tozero" }),
      yaxis: axis(""),
      margin: { l: 48, r: 44, t: 10, b: 44 },
    },
  };
}

const ARGUMENTS = {
  w: "width",
  n: "depth",
  e: "expansion",
  d: "width of a head",
  h: "heads",
  r: "reduction",
  which: "type",
};

// `3.cffn.e` is the expansion of part 3 if this part is a cffn stage.
function decisionLabel(name) {
  const words = name.split(".");
  const argument = words.pop();
  const part = words.filter((word) => /^\d+$/.test(word)).join(".");
  const types = words.filter((word) => !/^\d+$/.test(word)).join(" ");
  return `${part ? `part ${part}` : "all"}${types ? ` (${types})` : ""}: ${ARGUMENTS[argument] ?? argument}`;
}

// Parallel coordinates: one line for each network. A decision that a network does not have is at the bottom.
function parallelFigure(page) {
  const { decisions, axes } = page.study;
  const rows = page.study.networks.filter((row) => hasValue(row.so_far) && page.matches(row));
  if (rows.length < 2) return "Fewer than two networks have been trained.";
  if (!hasWebgl()) return "Parallel coordinates need WebGL, which this browser does not have.";
  const dimensions = Object.entries(decisions)
    .filter(([, { options }]) => options.length > 1)
    .map(([name, { options, indices }]) => {
      const isOptional = rows.some((row) => indices[row.index] === null);
      return {
        label: escaped(decisionLabel(name).replace("part ", "")),
        values: rows.map((row) => indices[row.index] ?? -1),
        range: [isOptional ? -1 : 0, options.length - 1],
        tickvals: [...(isOptional ? [-1] : []), ...options.keys()],
        ticktext: [...(isOptional ? [MISSING] : []), ...options].map(escaped),
      };
    });
  for (const cost of ["gflops", "params_m", "ms"]) {
    const values = rows.map((row) => row[cost]);
    if (values.every((value) => value !== null)) dimensions.push({ label: axes[cost].replace(/ \(.*/, ""), values });
  }
  dimensions.push({ label: `${page.study.curve_score.label} so far`, values: rows.map((row) => row.so_far) });
  const colors = isDark() ? ["#39424a", "#3aa0dd", "#f5d06a"] : ["#d5d8da", "#56B4E9", "#003a61"];
  const data = [
    {
      type: "parcoords",
      dimensions,
      line: {
        color: rows.map((row) => row.so_far),
        colorscale: colors.map((color, i) => [i / 2, color]),
        showscale: true,
        colorbar: { title: { text: page.study.curve_score.label }, thickness: 12, outlinewidth: 0 },
      },
      labelfont: { size: 12, color: cssColor("text") },
      tickfont: { size: 11, color: cssColor("muted") },
      rangefont: { size: 1, color: "rgba(0,0,0,0)" },
      labelangle: dimensions.length > 8 ? -30 : 0,
      unselected: { line: { opacity: 0.06 } },
    },
  ];
  return {
    data,
    height: 420,
    width: (isNarrow() ? 84 : 54) * dimensions.length,
    layout: { margin: { l: 70, r: 40, t: dimensions.length > 8 ? 100 : 64, b: 24 } },
  };
}

function volumeFigure(page) {
  const { volume, colours } = page.study;
  if (!volume.length) return "No trial has finished yet.";
  const data = [
    {
      type: "scatter",
      mode: "lines",
      x: volume.map((_, i) => i + 1),
      y: volume,
      line: { shape: "hv", color: themeColor(colours[0]), width: 2 },
      hovertemplate: "after %{x} trials: %{y:.1f} %<extra></extra>",
    },
  ];
  return {
    data,
    height: 320,
    layout: { xaxis: axis("Finished trials"), yaxis: axis("Hypervolume (%)", { rangemode: "tozero" }) },
  };
}

// Confirmations against GFLOPs alone and against the short trainings.
function shortLongFigure(page) {
  const { short_long: table, colours, score, curve_score: short } = page.study;
  const column = (rows, name) => rows.map((row) => row[table.columns.indexOf(name)]);
  const data = distinct(column(table.rows, "epochs")).flatMap((length, number) => {
    const rows = table.rows.filter((row) => column([row], "epochs")[0] === length);
    const trace = {
      type: "scatter",
      mode: "markers",
      name: `${length} epochs`,
      y: column(rows, "long"),
      text: column(rows, "name").map(escaped),
      marker: { color: themeColor(colours[number % colours.length]), size: 8 },
      hovertemplate: "%{text}<br>%{x}, %{y}<extra></extra>",
    };
    return [
      { ...trace, x: column(rows, "gflops"), showlegend: false },
      { ...trace, x: column(rows, "short"), xaxis: "x2" },
    ];
  });
  return {
    data,
    height: 360,
    layout: {
      xaxis: axis("GFLOPs alone", { domain: [0, 0.47] }),
      xaxis2: axis(`Short: ${short.axis}`, { domain: [0.53, 1] }),
      yaxis: axis(`Confirmation: ${score.axis}`),
    },
  };
}

// Kendall's tau of the short trainings after each epoch with the confirmations.
function shortOrderFigure(page) {
  const { short_orders: table, colours } = page.study;
  const column = (rows, name) => rows.map((row) => row[table.columns.indexOf(name)]);
  const data = distinct(column(table.rows, "epochs")).flatMap((length, number) => {
    const rows = table.rows.filter((row) => column([row], "epochs")[0] === length);
    return ["tau", "tau_beyond_cost"].map((name) => ({
      type: "scatter",
      mode: "lines+markers",
      name: `${name.replaceAll("_", " ")}, ${length} epochs`,
      x: column(rows, "after_epoch"),
      y: column(rows, name),
      line: { color: themeColor(colours[number % colours.length]), dash: name === "tau" ? "dash" : "solid" },
      hovertemplate: "after epoch %{x}: %{y:.2f}<extra></extra>",
    }));
  });
  return {
    data,
    height: 320,
    layout: { xaxis: axis("Epoch of the short trainings"), yaxis: axis("Tau with the confirmations") },
  };
}

function updateObjectives(select, page) {
  const labels = { ...page.study.objectives, front: "the Pareto front" };
  const names = Object.keys(page.study.importances);
  select.replaceChildren(...names.map((name) => el("option", { value: name }, labels[name] ?? name)));
  if (names.length && !names.includes(page.view.objective)) page.view.objective = names[0];
  select.value = page.view.objective;
  select.parentElement.hidden = !names.length;
}

function searchSections(page) {
  const importance = new Figure({ label: "Importance of each decision", make: () => importanceFigure(page) });
  const objective = dropdown("For", [], "", (value) => page.changeView({ objective: value }));
  const parallel = new Figure({
    label: "Decisions, costs and score of each network",
    make: () => parallelFigure(page),
    scrolls: true,
  });
  const shortLong = new Figure({ label: "Confirmations against GFLOPs and short trainings", make: () => shortLongFigure(page) });
  const shortOrder = new Figure({ label: "Order after each epoch", make: () => shortOrderFigure(page) });
  const volume = new Figure({ label: "Hypervolume over trials", make: () => volumeFigure(page) });
  const [confirmed, orders, splits, zeroCost] = [el("div"), el("div"), el("div"), el("div")];
  return [
    new Section({
      id: "confirmation",
      title: "Confirmation",
      intro: ({ study }) => study.rank_agreement,
      isShown: ({ study }) => study.confirmed.rows.length,
      parts: [confirmed, orders],
      update: ({ study }) => {
        confirmed.replaceChildren(contentTable("Confirmation", study.confirmed, study));
        orders.replaceChildren(contentTable("Kendall's tau with the confirmations", study.orders, study));
      },
    }),
    new Section({
      id: "short_long",
      title: "Short against long",
      intro:
        "The score of each confirmed network against its GFLOPs alone and against its short training; then how well the" +
        " short trainings order the networks after each epoch (Kendall's tau, over all and over those of like cost).",
      isShown: ({ study }) => study.short_long.rows.length,
      parts: [shortLong, shortOrder],
    }),
    new Section({
      id: "splits",
      title: "Validation and test",
      intro: ({ study }) => study.split_sentence,
      isShown: ({ study }) => study.splits.rows.length,
      parts: [splits],
      update: ({ study }) => splits.replaceChildren(contentTable("Validation and test", study.splits, study)),
    }),
    new Section({
      id: "importance",
      title: "What matters",
      intro:
        "Importance of each decision for the best networks (PED-ANOVA); the shares add up to 100 %." +
        " With few trials it is only a hint.",
      isShown: ({ study }) => study.search,
      parts: [el("div", { class: "controls" }, objective.node), importance],
      update: () => updateObjectives(objective.select, page),
    }),
    new Section({
      id: "parallel",
      title: "Every decision",
      intro: "Each line is a network. Drag along an axis to select lines; drag the name of an axis to move it.",
      isShown: ({ study }) => study.search,
      parts: [parallel],
    }),
    new Section({
      id: "hypervolume",
      title: "Found when",
      intro: "Dominated hypervolume after each finished trial, as a share of the final hypervolume; scores are those on the" +
        " validation images, by which the search chooses.",
      isShown: ({ study }) => study.search,
      parts: [volume],
    }),
    new Section({
      id: "zero_cost",
      title: "Zero-cost scores",
      intro: ({ study }) =>
        `Kendall's tau of each zero-cost score, and of the costs, with ${study.score.label}, best first.`,
      isShown: ({ study }) => study.zero_cost.rows.length,
      parts: [zeroCost],
      update: ({ study }) => zeroCost.replaceChildren(contentTable("Zero-cost scores", study.zero_cost, study)),
    }),
  ];
}

// The page from top to bottom.

class Page {
  constructor() {
    this.view = { cost: "gflops", log: false, logScore: false, objective: "top1" };
    this.parts = { unit: "gflops", share: false };
    this.visible = null;
    this.kept = (network) => this.visible === null || this.visible.has(network.index);
    this.top = el("div");
    this.sections = [
      this.costs(),
      this.table(),
      this.seeds(),
      this.compared(),
      this.learning(),
      this.byPart(),
      ...searchSections(this),
      this.plan(),
      this.failures(),
      this.inference(),
      this.trials(),
    ];
    document.getElementById("main").replaceChildren(this.top, ...this.sections.map((section) => section.node));
    document.getElementById("nav").replaceChildren(...this.sections.map((section) => section.link));
  }

  update(content) {
    this.study = study(content);
    document.title = content.title;
    this.top.replaceChildren(...head(this.study, this.top.querySelector("details")?.open));
    for (const section of this.sections) section.update(this);
    redrawAll();
  }

  open(network, trial = null) {
    if (network) openNetwork(this, network, trial);
  }

  costs() {
    const pick = choice("Cost", [["gflops", "GFLOPs"]], "gflops", (value) => this.look({ cost: value }));
    const log = tick("log cost", (on) => this.look({ log: on }));
    const logScore = tick("log top-1", (on) => this.look({ logScore: on }));
    const click = (point) => this.open(this.study.networks[point.customdata]);
    const own = new Figure({
      caption: "This study",
      label: "Top-1 against cost, this study",
      make: () => costFigure(this),
      click,
    });
    const paper = new Figure({
      caption: "The paper",
      label: "Top-1 against cost, published",
      make: () => paperFigure(this),
    });
    const said = (page) =>
      `Each point is a network, ${page.study.search ? "" : "bars are standard deviations over seeds, "}the line is the front.` +
      " The two panels have scales of their own: short trainings here, ImageNet-1K there.";
    const parts = [
      el("div", { class: "controls" }, pick.node, log, logScore),
      el("div", { class: "pair" }, own.node, paper.node),
    ];
    return new Section(
      "cost",
      "Accuracy and cost",
      said,
      () => true,
      parts,
      (page) => {
        const known = ["step", "side", "gflops", "params_m", "ms"].filter(
          (cost) =>
            page.study.networks.some((row) => row[cost] !== null && row[cost] !== undefined) &&
            (!["step", "side"].includes(cost) || page.study.paper.costs.includes(cost)),
        );
        pick.select.replaceChildren(
          ...(known.length ? known : ["gflops"]).map((cost) => el("option", { value: cost }, page.study.axes[cost])),
        );
        pick.select.value = this.view.cost;
        paper.caption.textContent = page.study.paper.title;
      },
    );
  }

  look(change) {
    Object.assign(this.view, change);
    redrawAll();
  }

  table() {
    const cell = (row, one) =>
      one.key === "name" ? el("span", { class: `dot${row.front ? " front" : ""}` }, spelled(cut(row.name, 120))) : null;
    const changed = (kept) => {
      this.visible = kept.length === this.study.networks.length ? null : new Set(kept.map((row) => row.index));
      clearTimeout(this.waiting);
      this.waiting = setTimeout(redrawAll, 150);
    };
    const table = new Table({
      label: "Networks",
      noun: "network",
      hint: "Filter: hr gflops<5 top1>40",
      open: (row) => this.open(row),
      cell,
      changed,
    });
    const said =
      "A dot marks the front of top-1 against GFLOPs. Click a head to sort, a name to open it;" +
      " the filter holds for the figures too.";
    return new Section(
      "networks",
      "Networks",
      said,
      () => true,
      [table.node],
      (page) => {
        if (page.study.search && !table.known) table.sort = { key: "top1", turn: 1, down: true };
        table.update(page.study.networks, page.study.columns);
      },
    );
  }

  seeds() {
    const figure = new Figure({
      label: "Top-1 of each seed with intervals",
      make: () => seedsFigure(this),
      click: (point) => this.open(this.study.networks[point.customdata]),
    });
    const said = (page) =>
      "How much is luck: each ring is a seed, the stroke their mean, the grey line Student's 95 % interval of it," +
      " which leaves the figure where seeds are few." +
      (page.study.looks.some((look) => look.second) ? " Orange: the longer trainings of the second look." : "");
    return new Section("seeds", "Seeds and intervals", said, (page) => page.study.looks.length, [figure]);
  }

  compared() {
    const body = el("div");
    return new Section(
      "shown",
      "What is shown",
      (page) => page.study.comparisons.caption,
      (page) => page.study.comparisons.rows.length,
      [body],
      (page) => body.replaceChildren(shownTable("Comparisons", page.study.comparisons)),
    );
  }

  learning() {
    const figure = new Figure({
      label: "Top-1 by epoch",
      make: () => learningFigure(this),
      click: (point) => this.openTrial(point.customdata),
    });
    const said = (page) => {
      const all = page.study.trials.filter((trial) => trial.curve.length && !trial.second).length;
      const most =
        all > MOST_CURVES
          ? ` Of ${number(all, 0)} trials the front's are drawn, and every so many-th of the others.`
          : "";
      return `Top-1 on all validation images behind each epoch, a line for each trial.${most}`;
    };
    return new Section("learning", "Learning", said, (page) => page.study.trials.length, [figure]);
  }

  openTrial(number) {
    const trial = this.study.trials.find((one) => one.trial === number);
    if (trial) this.open(trial.of, trial);
  }

  byPart() {
    const figure = new Figure({
      label: "Cost by part of each network",
      make: () => partsFigure(this),
      click: (point) => this.open(this.study.networks[point.customdata]),
    });
    const units = choice(
      "Cost",
      [
        ["gflops", "GFLOPs"],
        ["params_m", "Params"],
      ],
      "gflops",
      (unit) => {
        this.parts.unit = unit;
        figure.redraw();
      },
    );
    const share = tick("as shares", (on) => {
      this.parts.share = on;
      figure.redraw();
    });
    const said = (page) =>
      "Where the multiply-adds and the parameters are, from stem to head, counted on the modules." +
      (page.study.networks.length > MOST_BARS ? " Of many networks: those on the front." : "");
    return new Section("parts", "Cost by part", said, (page) => page.study.networks.length, [
      el("div", { class: "controls" }, units.node, share),
      figure,
    ]);
  }

  plan() {
    const bars = el("div", { class: "bars" });
    return new Section(
      "plan",
      "Plan and reality",
      "What the plan said before anything was spent (grey), and what it took.",
      (page) => page.study.planned.length,
      [bars],
      (page) => bars.replaceChildren(...planned(page.study.planned)),
    );
  }

  failures() {
    const body = el("div");
    const failed = (page) => page.study.trials.filter((trial) => trial.state === "failed");
    const said = (page) => `${plural(failed(page).length, "trial")} failed. --retry-failed trains them again.`;
    return new Section(
      "failures",
      "Failures",
      said,
      (page) => failed(page).length,
      [body],
      (page) => body.replaceChildren(reasons(this, failed(page))),
    );
  }

  inference() {
    const body = el("div");
    return new Section(
      "inference",
      "Inference",
      "Measured; the machine stands in inference.csv in full.",
      (page) => page.study.inference.rows.length,
      [body],
      (page) => body.replaceChildren(timed(page.study.inference)),
    );
  }

  trials() {
    const table = new Table({
      label: "Trials",
      noun: "trial",
      hint: "Filter: failed top1>40",
      open: (row) => this.open(row.of, row),
      cell: (row, one) => (one.key === "trial" ? String(row.trial) : null),
    });
    return new Section(
      "trials",
      "Every trial",
      "A line for each network and seed.",
      () => true,
      [table.node],
      (page) =>
        table.update(
          page.study.trials,
          OF_TRIALS.filter((one) => page.study.trials.some((row) => row[one.key] !== null && row[one.key] !== "")),
        ),
    );
  }
}

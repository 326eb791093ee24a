// The page: its sections from top to bottom.

class Page {
  constructor() {
    this.view = { cost: "gflops", logCost: false, logScore: false, objective: "" };
    this.partsView = { unit: "gflops", asShare: false };
    this.matchingIndices = null; // of the networks that match the filter; null: all
    this.matches = (network) => this.matchingIndices?.has(network.index) ?? true;
    this.top = el("div");
    this.sections = [
      this.costSection(),
      this.networkSection(),
      this.seedSection(),
      this.comparisonSection(),
      this.settingSection(),
      this.learningSection(),
      this.partsSection(),
      this.predictionSection(),
      ...searchSections(this),
      this.planSection(),
      this.failureSection(),
      this.inferenceSection(),
      this.trialSection(),
    ];
    document.getElementById("main").replaceChildren(this.top, ...this.sections.map((section) => section.node));
    document.getElementById("nav").replaceChildren(...this.sections.map((section) => section.link));
  }

  update(content) {
    this.study = readStudy(content);
    document.title = content.title;
    this.top.replaceChildren(...pageHead(this.study, this.top.querySelector("details")?.open));
    for (const section of this.sections) section.update(this);
    redrawAll();
  }

  open(network, trial = null) {
    if (network) openNetwork(this, network, trial);
  }

  openPoint(point) {
    this.open(this.study.networks[point.customdata]);
  }

  openTrial(number) {
    const trial = this.study.trials.find((candidate) => candidate.trial === number);
    if (trial) this.open(trial.network, trial);
  }

  changeView(change) {
    Object.assign(this.view, change);
    redrawAll();
  }

  costSection() {
    const cost = dropdown("Cost", [["gflops", "GFLOPs"]], "gflops", (value) => this.changeView({ cost: value }));
    const logCost = checkbox("log cost", (isOn) => this.changeView({ logCost: isOn }));
    const logScore = checkbox("log score", (isOn) => this.changeView({ logScore: isOn }));
    const study = new Figure({
      caption: "This study",
      label: "Score against cost, this study",
      make: () => costFigure(this),
      click: (point) => this.openPoint(point),
    });
    const paper = new Figure({
      caption: "The paper",
      label: "Score against cost, published",
      make: () => paperFigure(this),
    });
    return new Section({
      id: "cost",
      title: "Score and cost",
      intro: () =>
        "Each point is a network; the line is the Pareto front." +
        (this.study.seeds.length ? " Bars are standard deviations over seeds." : "") +
        ` Each panel has its own scale: short trainings in this study, ${this.study.paper.length} in the paper.`,
      parts: [
        el("div", { class: "controls" }, cost.node, logCost, logScore),
        el("div", { class: "pair" }, study.node, paper.node),
      ],
      update: () => {
        const { networks, paper: published, axes } = this.study;
        const costs = [...ORDERED_AXES.filter((name) => published.costs.includes(name)), "gflops", "params_m", "ms"];
        const measured = costs.filter((name) => networks.some((row) => hasValue(row[name])));
        const options = measured.length ? measured : ["gflops"];
        cost.select.replaceChildren(...options.map((name) => el("option", { value: name }, axes[name])));
        cost.select.value = this.view.cost;
        paper.caption.textContent = published.title;
      },
    });
  }

  networkSection() {
    const table = new Table({
      label: "Networks",
      noun: "network",
      hint: "Filter: hr gflops<5",
      open: (row) => this.open(row),
      cell: ({ name, front }, key) =>
        key === "name" ? el("span", { class: front ? "dot front" : "dot" }, specText(truncate(name, 120))) : null,
      onFilter: (rows) => {
        const isFiltered = rows.length < this.study.networks.length;
        this.matchingIndices = isFiltered ? new Set(rows.map((row) => row.index)) : null;
        clearTimeout(this.redrawTimer);
        this.redrawTimer = setTimeout(redrawAll, 150);
      },
    });
    return new Section({
      id: "networks",
      title: "Networks",
      intro: ({ study }) =>
        `A dot marks the Pareto front of ${study.score.label} and GFLOPs.` +
        " Click a column head to sort, a name to open the network;" +
        " the filter applies to the figures too.",
      parts: [table.node],
      update: () => {
        const { score } = this.study;
        if (this.study.search && !table.keys) table.sort = { key: score.key, click: 1, isDescending: score.up };
        table.update(this.study.networks, this.study.columns);
      },
    });
  }

  seedSection() {
    const figure = new Figure({
      label: "Score of each seed with intervals",
      make: () => seedsFigure(this),
      click: (point) => this.openPoint(point),
    });
    return new Section({
      id: "seeds",
      title: "Seeds and intervals",
      intro: () =>
        "Each ring is a seed, each short vertical line a mean, each grey line Student's 95 % confidence interval of" +
        " the mean. With few seeds the interval is wider than the figure." +
        (this.study.seeds.some((entry) => entry.confirmation) ? " Orange: confirmations." : ""),
      isShown: () => this.study.seeds.length,
      parts: [figure],
    });
  }

  comparisonSection() {
    const body = el("div");
    return new Section({
      id: "comparisons",
      title: "Comparisons",
      intro: () => this.study.comparisons.caption,
      isShown: () => this.study.comparisons.rows.length,
      parts: [body],
      update: () => body.replaceChildren(contentTable("Comparisons", this.study.comparisons, this.study)),
    });
  }

  learningSection() {
    const figure = new Figure({
      label: "Score by epoch",
      make: () => learningFigure(this),
      click: (point) => this.openTrial(point.customdata),
    });
    return new Section({
      id: "learning",
      title: "Learning",
      intro: () => {
        const count = this.study.trials.filter((trial) => trial.curve.length && !trial.isConfirmation).length;
        const selection = " The figure has the trials on the Pareto front and an evenly spaced part of the others.";
        return `${this.study.curve_score.title} after each epoch, one line for each trial.${count > MAX_CURVES ? selection : ""}`;
      },
      isShown: () => this.study.trials.length,
      parts: [figure],
    });
  }

  partsSection() {
    const figure = new Figure({
      label: "Cost by part of each network",
      make: () => partsFigure(this),
      click: (point) => this.openPoint(point),
    });
    const change = (options) => {
      Object.assign(this.partsView, options);
      figure.redraw();
    };
    const units = [
      ["gflops", "GFLOPs"],
      ["params_m", "Params"],
    ];
    const unit = dropdown("Cost", units, "gflops", (value) => change({ unit: value }));
    const asShare = checkbox("as shares", (isOn) => change({ asShare: isOn }));
    return new Section({
      id: "parts",
      title: "Cost by part",
      intro: () =>
        "Multiply-adds and parameters of each part, from stem to head, counted on the modules." +
        (this.study.networks.length > MAX_BARS ? " Only networks on the Pareto front are shown." : ""),
      isShown: () => this.study.networks.length,
      parts: [el("div", { class: "controls" }, unit.node, asShare), figure],
    });
  }

  predictionSection() {
    const body = el("div");
    const alt = "The truth, and below it the predictions of each network";
    return new Section({
      id: "predictions",
      title: "Predictions",
      intro: () => this.study.predictions.text,
      isShown: () => this.study.predictions,
      parts: [body],
      update: () => {
        const { image } = this.study.predictions;
        body.replaceChildren(image ? el("img", { class: "picture", alt, src: image }) : "");
      },
    });
  }

  settingSection() {
    const body = el("div");
    return new Section({
      id: "settings",
      title: "Settings",
      intro: "Every setting of each network; the chosen ones, best on the validation images, are shown above.",
      isShown: () => this.study.settings.rows.length,
      parts: [body],
      update: () => body.replaceChildren(contentTable("Settings", this.study.settings, this.study)),
    });
  }

  planSection() {
    const bars = el("div", { class: "bars" });
    return new Section({
      id: "plan",
      title: "Plan and reality",
      intro: "Planned time of each part of the run (grey), and the time that it took.",
      isShown: () => this.study.planned.length,
      parts: [bars],
      update: () => bars.replaceChildren(...planBars(this.study.planned)),
    });
  }

  failureSection() {
    const body = el("div");
    const failed = () => this.study.trials.filter((trial) => trial.state === "failed");
    return new Section({
      id: "failures",
      title: "Failures",
      intro: () => `${plural(failed().length, "trial")} failed. The option --retry-failed trains failed trials again.`,
      isShown: () => failed().length,
      parts: [body],
      update: () => body.replaceChildren(failureTable(this, failed())),
    });
  }

  inferenceSection() {
    const body = el("div");
    return new Section({
      id: "inference",
      title: "Inference",
      intro: "Measured inference time; inference.csv describes the machine.",
      isShown: () => this.study.inference.rows.length,
      parts: [body],
      update: () => body.replaceChildren(inferenceTable(this.study.inference)),
    });
  }

  trialSection() {
    const table = new Table({
      label: "Trials",
      noun: "trial",
      hint: "Filter: failed loss<2",
      open: (row) => this.open(row.network, row),
      cell: (row, key) => (key === "trial" ? String(row.trial) : null),
    });
    const hasContent = ({ key }) => this.study.trials.some((row) => row[key] !== null && row[key] !== "");
    return new Section({
      id: "trials",
      title: "Every trial",
      intro: () =>
        "One line for each network and seed." +
        (this.study.settings.rows.length ? " Trials of settings that were not chosen are in trials.csv." : ""),
      parts: [table.node],
      update: () => table.update(this.study.trials, trialColumns(this.study.trial_scores).filter(hasContent)),
    });
  }
}

const trialColumns = (scores) => [
  ["trial", "Trial", "Number of the trial in the ledger.", 0],
  ["name", "Network", "", null],
  ["seed", "Seed", "", 0],
  ["state", "State", "", null],
  ["epochs", "Epochs", "Finished epochs.", 0],
  ...scores.map((score) => [score.key, score.head, `${score.description}, last epoch.`, score.digits]),
  ["loss", "Loss", "Training loss of the last epoch.", 3],
  ["seconds", "Seconds", "Training time.", 1],
  ["device", "Device", "", null],
  ["confirms", "Confirms", "The trial whose network this trial trains longer.", 0],
  ["source", "Curve of", "The trial whose curve is reused, if this trial was not trained.", null],
  ["reason", "Reason", "Reason of a failure or a stop.", null],
].map(([key, label, description, digits]) => ({ key, label, description, digits, visible: true }));

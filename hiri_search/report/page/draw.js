// Figures: when the library is there and they are near, in the colours of the page; what was zoomed stays zoomed.

const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const LIGHTER = { "#000000": "#f0eee9", "#0072B2": "#3d9bdc" }; // on a dark ground
const CONFIG = {
  displaylogo: false,
  displayModeBar: matchMedia("(pointer: coarse)").matches ? false : "hover", // it would lie over the legend
  responsive: true,
  modeBarButtonsToRemove: [
    "select2d",
    "lasso2d",
    "autoScale2d",
    "hoverClosestCartesian",
    "hoverCompareCartesian",
    "toggleSpikelines",
  ],
};
const MANY_POINTS = 1500; // from which on they are drawn by WebGL, where there is one

const dark = () => document.documentElement.dataset.theme === "dark";
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const coloured = (colour) => (dark() ? (LIGHTER[colour] ?? colour) : colour);
const webgl = (() => {
  let known;
  return () => (known ??= Boolean(document.createElement("canvas").getContext("webgl")));
})();

let library = null;
function plotly() {
  library ??= (async () => {
    const script = document.createElement("script");
    script.textContent = await unpacked(document.getElementById("library").textContent);
    document.head.append(script);
    return window.Plotly;
  })();
  return library;
}

function axis(title, more = {}) {
  return {
    title: { text: title, standoff: 8 },
    gridcolor: ink("grid"),
    linecolor: ink("line"),
    zeroline: false,
    automargin: true,
    tickfont: { color: ink("muted") },
    ...more,
  };
}

function layout(more = {}) {
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 10, b: 44 },
    font: {
      family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
      size: 12.5,
      color: ink("text"),
    },
    hoverlabel: {
      bgcolor: ink("raised"),
      bordercolor: ink("faint"),
      align: "left",
      font: { color: ink("text"), size: 12.5 },
      namelength: -1,
    },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("faint"), activecolor: ink("accent") },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hovermode: "closest",
    uirevision: "kept",
  };
  return { ...base, ...more };
}

const figures = [];
const near = new IntersectionObserver(
  (seen) => {
    for (const { target, isIntersecting } of seen) {
      const figure = figures.find((one) => one.plot === target);
      figure.near = isIntersecting;
      if (isIntersecting && figure.stale) figure.draw();
    }
  },
  { rootMargin: "700px 0px" },
);

class Figure {
  // `make` gives {data, layout, height}, or words in place of a figure where there is nothing to draw.
  constructor({ caption = "", label, make, click = () => {}, scrolls = false }) {
    Object.assign(this, { make, click, stale: true, near: false });
    this.plot = el("div", { class: "plot", role: "img", "aria-label": label });
    this.words = el("p", { class: "none", hidden: true });
    this.caption = caption ? el("figcaption", {}, caption) : "";
    const frame = scrolls ? el("div", { class: "wide" }, this.plot) : this.plot;
    this.node = el("figure", {}, this.caption, frame, this.words);
    figures.push(this);
    near.observe(this.plot);
  }

  redraw() {
    this.stale = true;
    if (this.near) this.draw();
  }

  async draw() {
    this.stale = false;
    const Plotly = await plotly();
    const made = this.make();
    const none = typeof made === "string";
    this.words.hidden = !none;
    this.words.textContent = none ? made : "";
    this.plot.style.minHeight = none ? "0" : "";
    if (none) {
      if (this.drawn) Plotly.purge(this.plot);
      this.drawn = false;
      return;
    }
    this.plot.style.minWidth = made.width ? `${made.width}px` : "";
    this.plot.style.height = `${made.height}px`;
    await Plotly.react(this.plot, made.data, layout({ height: made.height, ...made.layout }), CONFIG);
    if (!this.drawn) {
      this.plot.on("plotly_click", (event) => this.click(event.points[0]));
      this.plot.on("plotly_restyle", (event) => this.restyled?.(event));
    }
    this.drawn = true;
    this.plot.dataset.drawn = String(Number(this.plot.dataset.drawn ?? 0) + 1);
  }
}

const redrawAll = () => figures.forEach((figure) => figure.redraw());
const drawAll = () => Promise.all(figures.map((figure) => (figure.drawn && !figure.stale ? null : figure.draw())));

// A label and a choice; `options` are [value, words].
function choice(words, options, chosen, change) {
  const select = el(
    "select",
    { change: () => change(select.value) },
    ...options.map(([value, text]) => el("option", { value }, text)),
  );
  select.value = chosen;
  const node = el("label", {}, words, select);
  return { node, select };
}

function tick(words, change, checked = false) {
  const box = el("input", { type: "checkbox", change: () => change(box.checked) });
  box.checked = checked;
  return el("label", {}, box, words);
}

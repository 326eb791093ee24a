// A Plotly figure. It is drawn when it is near the viewport; zoom is kept when it is drawn again.

const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const DARK_VARIANTS = { "#000000": "#f0eee9", "#0072B2": "#3d9bdc" };
const IS_TOUCH = matchMedia("(pointer: coarse)").matches;
const CONFIG = {
  displaylogo: false,
  displayModeBar: IS_TOUCH ? false : "hover", // on a phone the bar would cover the legend
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
const WEBGL_POINTS = 1500; // more points than this are drawn with WebGL

const isDark = () => document.documentElement.dataset.theme === "dark";
const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const themeColor = (color) => (isDark() ? (DARK_VARIANTS[color] ?? color) : color);
const hasWebgl = (() => {
  let result;
  return () => (result ??= Boolean(document.createElement("canvas").getContext("webgl")));
})();

let library = null;
function loadPlotly() {
  library ??= (async () => {
    const script = document.createElement("script");
    script.textContent = await decompressed(document.getElementById("library").textContent);
    document.head.append(script);
    return window.Plotly;
  })();
  return library;
}

function axis(title, options = {}) {
  return {
    title: { text: title, standoff: 8 },
    gridcolor: cssColor("grid"),
    linecolor: cssColor("line"),
    zeroline: false,
    automargin: true,
    tickfont: { color: cssColor("muted") },
    ...options,
  };
}

function layout(options = {}) {
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 10, b: 44 },
    font: {
      family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
      size: 12.5,
      color: cssColor("text"),
    },
    hoverlabel: {
      bgcolor: cssColor("raised"),
      bordercolor: cssColor("faint"),
      align: "left",
      font: { color: cssColor("text"), size: 12.5 },
      namelength: -1,
    },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: cssColor("faint"), activecolor: cssColor("accent") },
    dragmode: IS_TOUCH ? false : "zoom",
    hovermode: "closest",
    uirevision: "constant", // keeps zoom and hidden traces
  };
  return { ...base, ...options };
}

const figures = [];
const viewport = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const figure = figures.find((candidate) => candidate.plot === target);
      figure.isNear = isIntersecting;
      if (isIntersecting && figure.isStale) figure.draw();
    }
  },
  { rootMargin: "700px 0px" },
);

class Figure {
  // `make` returns {data, layout, height}, or a text if there is nothing to draw.
  constructor({ caption = "", label, make, click = () => {}, scrolls = false }) {
    Object.assign(this, { make, click, isStale: true, isNear: false });
    this.plot = el("div", { class: "plot", role: "img", "aria-label": label });
    this.message = el("p", { class: "none", hidden: true });
    this.caption = caption ? el("figcaption", {}, caption) : "";
    const frame = scrolls ? el("div", { class: "wide" }, this.plot) : this.plot;
    this.node = el("figure", {}, this.caption, frame, this.message);
    figures.push(this);
    viewport.observe(this.plot);
  }

  redraw() {
    this.isStale = true;
    if (this.isNear) this.draw();
  }

  async draw() {
    this.isStale = false;
    const Plotly = await loadPlotly();
    const content = this.make();
    const isText = typeof content === "string";
    this.message.hidden = !isText;
    this.message.textContent = isText ? content : "";
    this.plot.style.minHeight = isText ? "0" : "";
    if (isText) {
      if (this.isDrawn) Plotly.purge(this.plot);
      this.isDrawn = false;
      return;
    }
    this.plot.style.minWidth = content.width ? `${content.width}px` : "";
    this.plot.style.height = `${content.height}px`;
    await Plotly.react(this.plot, content.data, layout({ height: content.height, ...content.layout }), CONFIG);
    if (!this.isDrawn) this.plot.on("plotly_click", (event) => this.click(event.points[0]));
    this.isDrawn = true;
    this.plot.dataset.drawn = String(Number(this.plot.dataset.drawn ?? 0) + 1);
  }
}

const redrawAll = () => figures.forEach((figure) => figure.redraw());
const drawAll = () => Promise.all(figures.map((figure) => (figure.isDrawn && !figure.isStale ? null : figure.draw())));

// A labelled select; `options` are [value, text].
function dropdown(label, options, selected, change) {
  const select = el(
    "select",
    { change: () => change(select.value) },
    ...options.map(([value, text]) => el("option", { value }, text)),
  );
  select.value = selected;
  return { node: el("label", {}, label, select), select };
}

function checkbox(label, change) {
  const box = el("input", { type: "checkbox", change: () => change(box.checked) });
  return el("label", {}, box, label);
}

// Elements, numbers and text. Everything from a study enters the page as text, never as markup.

const MISSING = "–";

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function number(value, digits) {
  if (value === null || value === undefined) return MISSING;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const signed = (value, digits) =>
  value === null ? MISSING : `${value < 0 ? "−" : "+"}${number(Math.abs(value), digits)}`;

function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${number(Math.floor(whole / 3600), 0)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

const plural = (count, noun) => `${number(count, 0)} ${noun}${count === 1 ? "" : "s"}`;
const truncate = (text, length) => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);
const distinct = (values) => [...new Set(values)];
const hasValue = (value) => value !== null && value !== undefined;
// The text of a spec; a line break is allowed anywhere except inside an arrow.
const specText = (text) =>
  el("span", {}, ...text.split("->").flatMap((part, i) => [i ? el("span", { class: "arrow" }, "->") : null, part]));
const isNarrow = () => window.innerWidth < 760;

// Plotly interprets some tags and entities in text: escape all of them.
const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// Tooltip of a point: a name in bold, then one line for each text.
const tooltip = (name, ...texts) => [`<b>${wrapped(truncate(name, 300))}</b>`, ...texts.map(escaped)].join("<br>");

// Axis label of a network; a spec is shortened.
function networkLabel(name) {
  const isSpec = /^\w+\(.* -> /.test(name);
  const short = !isSpec ? name : name
    .replaceAll(" -> ", " · ")
    .replace(/\((\d+)(?: e=(\d+))?\)/g, (_, width, e) => (e ? `${width}e${e}` : width))
    .replace(/\*(\d+)/g, "×$1");
  return isNarrow() ? wrapped(truncate(short, 62), 23) : escaped(truncate(short, 70));
}

const rowHeight = () => (isNarrow() ? 52 : 30); // pixels for a row of a figure; labels on a phone have up to 3 lines

// Text for Plotly in lines of at most `width` characters, broken between words.
function wrapped(text, width = isNarrow() ? 34 : 64) {
  const lines = [""];
  const words = String(text).split(" ");
  for (const word of words.flatMap((long) => long.match(new RegExp(`.{1,${width}}`, "gsu")) ?? [""])) {
    const last = lines[lines.length - 1];
    if (last && last.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines.map(escaped).join("<br>");
}

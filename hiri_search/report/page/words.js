// Elements, numbers and words. Whatever comes from a study enters the page as text, never as markup.

const NOTHING = "–";

function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function number(value, digits) {
  if (value === null || value === undefined) return NOTHING;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const signed = (value, digits) =>
  value === null ? NOTHING : `${value < 0 ? "−" : "+"}${number(Math.abs(value), digits)}`;

function seconds(value) {
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${number(Math.floor(whole / 3600), 0)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

const plural = (count, noun) => `${number(count, 0)} ${noun}${count === 1 ? "" : "s"}`;
const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
// A spec may be broken anywhere but in an arrow.
const spelled = (text) =>
  el("span", {}, ...text.split("->").flatMap((part, at) => [at ? el("span", { class: "arrow" }, "->") : null, part]));
const narrow = () => window.innerWidth < 760;

// Plotly reads a few tags and entities in texts: none of ours and none of a study's.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// What is told of a point: whose it is, and a line for each thing said.
const told = (name, ...said) => [`<b>${lines(cut(name, 300))}</b>`, ...said.map(plain)].join("<br>");

// Of a network beside a figure: of a spec what tells it from others, in up to three lines on a phone.
function label(name) {
  const spec = /^\w+\(.* -> /.test(name);
  const short = !spec ? name : name
    .replaceAll(" -> ", " · ")
    .replace(/\((\d+)(?: e=(\d+))?\)/g, (_, width, e) => (e ? `${width}e${e}` : width))
    .replace(/\*(\d+)/g, "×$1");
  return narrow() ? lines(cut(short, 62), 23) : plain(cut(short, 70));
}

const rowHeight = () => (narrow() ? 52 : 30); // of a label and what stands beside it, in pixels

// In lines of so many letters, broken between words, for Plotly's labels.
function lines(text, width = narrow() ? 34 : 64) {
  const found = [""];
  for (const word of String(text)
    .split(" ")
    .flatMap((long) => long.match(new RegExp(`.{1,${width}}`, "gsu")) ?? [""])) {
    const last = found[found.length - 1];
    if (last && last.length + word.length >= width) found.push(word);
    else found[found.length - 1] = last ? `${last} ${word}` : word;
  }
  return found.map(plain).join("<br>");
}

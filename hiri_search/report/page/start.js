// Starts the page: light or dark theme, first drawing, updates of a running study.

const THEME_KEY = "hiri_search.theme";
const POLL_MS = 2000; // between requests to the server of `watch`

// Reads or stores the chosen theme. Some browsers store nothing for local files: the choice then lasts until reload.
function storedTheme(theme) {
  try {
    return theme === undefined ? localStorage.getItem(THEME_KEY) : localStorage.setItem(THEME_KEY, theme);
  } catch {
    return null;
  }
}

const systemTheme = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  themeButton.textContent = theme === "dark" ? "☀ Light" : "☾ Dark";
  themeButton.setAttribute("aria-label", theme === "dark" ? "Show in light colours" : "Show in dark colours");
}

setTheme(storedTheme() ?? (systemTheme.matches ? "dark" : "light"));
themeButton.addEventListener("click", () => {
  setTheme(isDark() ? "light" : "dark");
  storedTheme(document.documentElement.dataset.theme);
  redrawAll();
});
systemTheme.addEventListener("change", (event) => {
  if (storedTheme()) return;
  setTheme(event.matches ? "dark" : "light");
  redrawAll();
});

// ---- live page

const statusLine = document.getElementById("live");

function showStatus(text, kind = "") {
  statusLine.hidden = false;
  statusLine.className = kind;
  statusLine.textContent = text;
  statusLine.title = text;
}

function showProgress({ running, words, seconds_left: left }) {
  const range = running && left ? [...new Set(left.map(duration))].join(" to ") : "";
  showStatus(`${running ? "running" : "not running"}: ${words}${range && `, ${range} left`}`, running ? "running" : "");
}

async function pollServer(page) {
  let tag = "";
  for (;;) {
    const start = performance.now();
    try {
      const answer = await fetch("data", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status !== 304) {
        const data = await answer.json();
        tag = answer.headers.get("ETag") ?? "";
        if (data.content) page = showContent(page, data.content);
        if (data.trouble) showStatus(data.trouble, "trouble");
        else showProgress(data.status);
      }
    } catch {
      showStatus("hiri-search watch has ended; this is its last state", "trouble");
      tag = "";
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(POLL_MS, 5 * (performance.now() - start))));
  }
}

function showContent(page, content) {
  const current = page ?? new Page();
  current.update(content);
  if (!page) markCurrentSection();
  return current;
}

// Marks the navigation link of the section in view.
function markCurrentSection() {
  const links = new Map([...document.querySelectorAll("#nav a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        links.forEach((link) => link.classList.remove("here"));
        links.get(target.id)?.classList.add("here");
      }
    },
    { rootMargin: "-20% 0px -75% 0px" },
  );
  document.querySelectorAll("section").forEach((section) => observer.observe(section));
}

addEventListener("beforeprint", () => drawAll());
let wasNarrow = isNarrow();
addEventListener("resize", () => {
  if (isNarrow() !== wasNarrow) redrawAll();
  wasNarrow = isNarrow();
});

(async () => {
  const { live, trouble, content } = await readData();
  const page = content ? showContent(null, content) : null;
  if (page) openTrialFromAddress(page);
  if (trouble) showStatus(trouble, "trouble");
  if (live) pollServer(page);
  document.documentElement.dataset.ready = "yes";
})();

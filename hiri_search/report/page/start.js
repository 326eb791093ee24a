// Light or dark, the first drawing, and news from a study that runs.

const THEME = "hiri_search.theme";
const EVERY = 2000; // milliseconds between questions, or more where the answer takes long

function remembered(value) {
  try {
    // where a browser keeps nothing for files, the choice lasts as long as the page
    return value === undefined ? localStorage.getItem(THEME) : localStorage.setItem(THEME, value);
  } catch {
    return null;
  }
}

const system = matchMedia("(prefers-color-scheme: dark)");
const button = document.getElementById("theme");

function themed(theme) {
  document.documentElement.dataset.theme = theme;
  button.textContent = theme === "dark" ? "☀ Light" : "☾ Dark";
  button.setAttribute("aria-label", theme === "dark" ? "Show in light colours" : "Show in dark colours");
}

themed(remembered() ?? (system.matches ? "dark" : "light"));
button.addEventListener("click", () => {
  themed(dark() ? "light" : "dark");
  remembered(document.documentElement.dataset.theme);
  redrawAll();
});
system.addEventListener("change", (event) => {
  if (remembered()) return;
  themed(event.matches ? "dark" : "light");
  redrawAll();
});

// ---- news

const live = document.getElementById("live");

function strip(words, kind = "") {
  live.hidden = false;
  live.className = kind;
  live.textContent = words;
  live.title = words;
}

function standing(status) {
  const left = status.seconds_left;
  const rest =
    status.running && left ? `, ${seconds(left[0])}${left[1] > left[0] ? ` to ${seconds(left[1])}` : ""} left` : "";
  strip(`${status.running ? "running" : "not running"}: ${status.words}${rest}`, status.running ? "running" : "");
}

async function watching(page) {
  let tag = "";
  for (;;) {
    const began = performance.now();
    try {
      const answer = await fetch("data", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status !== 304) {
        const news = await answer.json();
        tag = answer.headers.get("ETag") ?? "";
        if (news.content) page = renewed(page, news.content);
        if (news.trouble) strip(news.trouble, "trouble");
        else standing(news.status);
      }
    } catch {
      strip("hiri-search watch has ended; this is the last that it told", "trouble");
      tag = "";
    }
    await new Promise((wait) => setTimeout(wait, Math.max(EVERY, 5 * (performance.now() - began))));
  }
}

function renewed(page, content) {
  const made = page ?? new Page();
  made.update(content);
  if (!page) follow();
  return made;
}

// The link of the section that is looked at.
function follow() {
  const links = new Map([...document.querySelectorAll("#nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        links.forEach((link) => link.classList.remove("here"));
        links.get(target.id)?.classList.add("here");
      }
    },
    { rootMargin: "-20% 0px -75% 0px" },
  );
  document.querySelectorAll("section").forEach((section) => seen.observe(section));
}

addEventListener("beforeprint", () => drawAll());
let width = window.innerWidth < 760;
addEventListener("resize", () => {
  if (narrow() !== width) redrawAll();
  width = narrow();
});

(async () => {
  const { live: isLive, trouble, content } = await given();
  const page = content ? renewed(null, content) : null;
  if (page) openAddressed(page);
  if (trouble) strip(trouble, "trouble");
  if (isLive) watching(page);
  document.documentElement.dataset.ready = "yes";
})();

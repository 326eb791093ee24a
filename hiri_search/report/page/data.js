// The block of data: unpacked, and its columns turned into rows.

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function given() {
  const block = document.getElementById("data");
  const text = block.dataset.kind === "packed" ? await unpacked(block.textContent) : block.textContent;
  return JSON.parse(text);
}

const column = (kept) => (Array.isArray(kept) ? kept : kept.at.map((place) => kept.of[place]));

function rowsOf(columns) {
  const names = Object.keys(columns);
  const values = names.map((name) => column(columns[name]));
  return values.length
    ? values[0].map((_, at) => Object.fromEntries(names.map((name, n) => [name, values[n][at]])))
    : [];
}

// What the page shows: the content with networks and trials as rows that know each other.
function study(content) {
  const networks = rowsOf(content.networks);
  const trials = rowsOf(content.trials);
  networks.forEach((network, at) => {
    network.index = at;
    network.trials = [];
    network.parts = content.parts.networks[at].map((part) => content.parts.of[part]);
    network.words = ["name", "spec", "trained_spec", "note", "state", "curve", "key"]
      .map((name) => network[name] ?? "")
      .join("\n")
      .toLowerCase();
  });
  for (const trial of trials) {
    trial.of = networks[trial.network];
    trial.of.trials.push(trial);
    trial.name = trial.of.name;
    trial.words = `${trial.name}\n${trial.state}\n${trial.reason}\n${trial.device}`.toLowerCase();
  }
  return { ...content, networks, trials, points: rowsOf(content.paper.points) };
}

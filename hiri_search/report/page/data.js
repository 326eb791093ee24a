// Reads the block of data and turns its columns into rows.

async function decompressed(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function readData() {
  const block = document.getElementById("data");
  return JSON.parse(block.dataset.kind === "gzip" ? await decompressed(block.textContent) : block.textContent);
}

const columnValues = (column) => (Array.isArray(column) ? column : column.indices.map((i) => column.values[i]));

function rowsOf(columns) {
  const names = Object.keys(columns);
  const values = names.map((name) => columnValues(columns[name]));
  return values.length ? values[0].map((_, i) => Object.fromEntries(names.map((name, n) => [name, values[n][i]]))) : [];
}

// Adds networks and trials as rows that refer to each other.
function readStudy(content) {
  const networks = rowsOf(content.networks);
  const trials = rowsOf(content.trials);
  networks.forEach((network, i) => {
    network.index = i;
    network.trials = [];
    network.parts = content.parts.networks[i].map((part) => content.parts.values[part]);
    network.searchText = ["name", "spec", "trained_spec", "note", "state", "curve", "key"]
      .map((name) => network[name] ?? "")
      .join("\n")
      .toLowerCase();
  });
  for (const trial of trials) {
    trial.network = networks[trial.network];
    trial.network.trials.push(trial);
    trial.name = trial.network.name;
    trial.searchText = `${trial.name}\n${trial.state}\n${trial.reason}\n${trial.device}`.toLowerCase();
  }
  return { ...content, networks, trials, paperPoints: rowsOf(content.paper.points) };
}

// The page: theme, buttons, and what starts it all.

function setUpTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const name = () => {
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  name();
}

/** Copy an element's text; where the browser forbids that, select it for Ctrl+C. */
async function copy(button) {
  const source = byId(button.dataset.copy);
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    const details = source.closest("details");
    if (details) details.open = true;
    getSelection().selectAllChildren(source);
    said = "Selected: press Ctrl+C";
  }
  const before = button.textContent;
  button.textContent = said;
  setTimeout(() => {
    button.textContent = before;
  }, 2000);
}

function save(button) {
  const blob = new Blob([byId(button.dataset.save).textContent, "\n"], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(blob), download: "recipe.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Run before the recipe is read: it may be long, and what is above it must not move when it comes. */
function start() {
  document.documentElement.classList.add("scripted");
  const data = JSON.parse(byId("data").textContent);
  setUpTheme();
  addEventListener("scroll", tip.place, { passive: true });
  document.addEventListener("click", ({ target }) => {
    if (target.matches("[data-copy]")) copy(target);
    if (target.matches("[data-save]")) save(target);
  });
  if (data.frontier.length > 0) setUpFrontier(data);
  const layers = layersOf(data.layers);
  if (layers.length > 0) {
    const reveal = setUpTable(layers);
    setUpTreemap(layers, reveal);
  }
}

start();

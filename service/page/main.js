// What the page is asked and remembers: pictures, the question, keys on the keyboard.

const MOST_ENTRIES = 24; // in the strip
const [LEAST_ALPHA, MOST_ALPHA] = [0.001, 0.5];
const GALLERY = [
  ["board-logical_extra-3.jpg", "board, extra part"],
  ["board-good-3.jpg", "board, good"],
  ["board-component_wrong_part-3.jpg", "board, wrong part"],
  ["blister-structural_crack-3.jpg", "blister, crack"],
  ["blister-good-3.jpg", "blister, good"],
  ["blister-component_wrong_colour-2.jpg", "blister, wrong colour"],
  ["fabric-logical_swapped-3.jpg", "fabric, swapped"],
  ["fabric-good-2.jpg", "fabric, good"],
  ["gear-hole-0.jpg", "metal gear", "metal gear"],
];

const entries = []; // the last pictures, oldest first
let current = null;
let alpha = null; // as the slider was moved, else null
let asked = 0; // questions so far: a late answer does not take the place of a newer one

function question() {
  const mode = document.querySelector('input[name="mode"]:checked').value;
  const names = $("names").value.split(",").map((name) => name.trim()).filter(Boolean);
  return { mode, category: $("product").value, names, alpha };
}

// Judges one file and shows it.
async function inspect(file, how = question()) {
  asked += 1;
  const turn = asked;
  $("problem").hidden = true;
  $("stage").setAttribute("aria-busy", "true");
  $("stage").scrollIntoView({ block: "nearest" });
  try {
    if (how.mode === "names" && !how.names.length) throw new ServiceError("No class name", "Say what the picture shows, like “metal gear”.");
    const { path, answer } = await judgePicture(file, how);
    const entry = { file, name: file.name, path, answer, alpha: how.alpha, url: URL.createObjectURL(file) };
    if (!answer.classes) entry.calibration = await withThreshold(answer);
    remember(entry);
    if (turn === asked) await show(entry);
  } catch (error) {
    if (turn !== asked) return;
    clear();
    fail(error);
  } finally {
    if (turn === asked) $("stage").removeAttribute("aria-busy");
  }
}

// The calibration of an answer, with the threshold at the bundle's own alpha: the unit of the histogram.
// Without one, as after a reload, the answer is shown alone.
async function withThreshold(answer) {
  const calibration = await calibrationOf(answer).catch(() => null);
  return calibration && { ...calibration, threshold: conformalThreshold(calibration.scores, calibration.alpha) };
}

// No verdict of an earlier picture beside an error.
function clear() {
  current = null;
  entries.forEach((one) => one.button.setAttribute("aria-current", false));
  $("result").hidden = $("frame").hidden = $("tools").hidden = true;
  $("welcome").hidden = $("invitation").hidden = false;
}

function fail(error) {
  showProblem(error);
  if (error.status === 401) openKey("The service asks for a key.");
}

function inspectAll(files) {
  const pictures = [...files].filter((file) => !file.name.startsWith("."));
  if (pictures.length === 1) inspect(pictures[0]);
  else if (pictures.length) judgeBatch(pictures, question(), inspect);
}

// The strip ------------------------------------------------------------------------------------------------------

function remember(entry) {
  entries.push(entry);
  entry.button = make("button", { type: "button", onclick: () => show(entry) }, make("img", { src: entry.url, alt: "" }), icon("normal"));
  $("strip").append(make("li", {}, entry.button));
  $("strip-part").hidden = false;
  if (entries.length > MOST_ENTRIES) {
    const { button, url } = entries.shift();
    button.parentElement.remove();
    URL.revokeObjectURL(url);
  }
  markStrip();
}

// The verdicts of the strip, at the alpha of the slider.
function markStrip() {
  entries.forEach((entry) => {
    const verdict = verdictOf(entry.answer.classes ? asOne(entry.answer) : shownOf(entry));
    entry.button.className = verdict.tone;
    entry.button.querySelector("use").setAttribute("href", `#icon-${verdict.icon}`);
    entry.button.setAttribute("aria-label", `${entry.name}: ${verdict.word}`);
  });
}

async function show(entry) {
  current = entry;
  entries.forEach((one) => one.button.setAttribute("aria-current", one === entry));
  $("strip").scrollTo({ left: entry.button.offsetLeft - 60 });
  placeSlider();
  await showEntry(entry, shownOf(entry), alpha);
}

function step(by) {
  const next = entries[entries.indexOf(current) + by];
  if (next) show(next);
}

// The slider, logarithmic ----------------------------------------------------------------------------------------

const alphaAt = (place) => LEAST_ALPHA * (MOST_ALPHA / LEAST_ALPHA) ** (place / 100);
const placeOf = (value) => (100 * Math.log(value / LEAST_ALPHA)) / Math.log(MOST_ALPHA / LEAST_ALPHA);

// The answer at the alpha of the slider: the service's own where it was asked with that.
function shownOf({ answer, calibration, alpha: own }) {
  return calibration && alpha !== own ? judged(answer, calibration.scores, alpha ?? calibration.alpha) : answer;
}

function placeSlider() {
  if (current.calibration) $("alpha").value = placeOf(alpha ?? current.calibration.alpha);
}

function moveAlpha(value) {
  alpha = value;
  showScore(current, shownOf(current), alpha);
  markStrip();
}

$("alpha").addEventListener("input", () => moveAlpha(Number(alphaAt(Number($("alpha").value)).toPrecision(4))));
$("alpha-reset").addEventListener("click", () => { moveAlpha(null); placeSlider(); $("alpha").focus(); });

// Sources of pictures --------------------------------------------------------------------------------------------

async function filesOf(transfer) {
  const items = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return items.length ? (await Promise.all(items.map(inside))).flat() : [...transfer.files];
}

// All files of a dropped file or folder.
async function inside(item) {
  if (item.isFile) return [await new Promise((done, failed) => item.file(done, failed))];
  const reader = item.createReader();
  const found = [];
  for (let part; part?.length !== 0; found.push(...part)) part = await new Promise((done, failed) => reader.readEntries(done, failed));
  return (await Promise.all(found.map(inside))).flat();
}

async function inspectDemo([name, , className]) {
  if (className) $("names").value = className;
  const picture = await (await fetch(`gallery/${name}`)).blob();
  await inspect(new File([picture], name, { type: picture.type }));
}

function showGallery(categories, hasNames) {
  const shown = GALLERY.filter(([name, , className]) => (className ? hasNames : categories.includes(name.split("-")[0])));
  $("gallery-part").hidden = $("first").hidden = !shown.length;
  $("gallery").replaceChildren(...shown.map((one) => make("li", {}, make("button", { type: "button", onclick: () => inspectDemo(one) },
    make("img", { src: `gallery/${one[0]}`, alt: "", width: 256, height: 256, loading: "lazy" }), make("span", {}, one[1])))));
  $("first").onclick = () => inspectDemo(shown[0]);
}

function listen(target, events, handle) {
  events.split(" ").forEach((event) => target.addEventListener(event, handle));
}

listen(document, "dragenter dragover", (event) => { event.preventDefault(); $("stage").classList.add("dropping"); });
listen(document, "dragleave drop", (event) => { if (event.type === "drop" || !event.relatedTarget) $("stage").classList.remove("dropping"); });
listen(document, "drop", async (event) => { event.preventDefault(); inspectAll(await filesOf(event.dataTransfer)); });
listen(document, "paste", (event) => inspectAll(event.clipboardData.files));
["files", "directory"].forEach((id) => $(id).addEventListener("change", () => { inspectAll($(id).files); $(id).value = ""; }));
$("choose").addEventListener("click", () => $("files").click());
$("folder").addEventListener("click", () => $("directory").click());
$("batch-stop").addEventListener("click", () => { batch.isStopped = true; });
$("camera-open").addEventListener("click", openCamera);
$("camera-close").addEventListener("click", () => $("camera-dialog").close());
$("camera-dialog").addEventListener("close", closeCamera);
$("camera-take").addEventListener("click", () => judgeCamera(inspect));

// The question ---------------------------------------------------------------------------------------------------

function showMode() {
  const isNames = question().mode === "names";
  $("names-field").hidden = !isNames;
  $("product-field").hidden = isNames;
}

$("modes").addEventListener("change", showMode);
$("question").addEventListener("submit", (event) => { event.preventDefault(); if (current) inspect(current.file); });
$("product").addEventListener("change", () => { if (current) inspect(current.file); });

// What the service serves; asked at the start and with each new key.
async function connect() {
  try {
    const { models } = await ask("models");
    const trained = models.filter((model) => model.kind === "anomalymoe");
    const categories = [...new Set(trained.flatMap((model) => model.categories))].sort();
    const hasNames = models.length > trained.length;
    $("product").replaceChildren(new Option("recognise it", ""), ...categories.map((name) => new Option(name, name)));
    $("modes").hidden = !(trained.length && hasNames);
    document.querySelector(`input[value="${trained.length ? "product" : "names"}"]`).checked = true;
    showMode();
    showGallery(categories, hasNames);
    $("state").textContent = models.map((model) => `${model.name} ${model.version}`).join(", ");
    $("state").dataset.tone = "normal";
    $("problem").hidden = true;
  } catch (error) {
    $("state").textContent = error.status === 401 ? "key needed" : "not ready";
    $("state").dataset.tone = "anomalous";
    fail(error);
  }
}

// Key, judgement, theme, keyboard --------------------------------------------------------------------------------

function openKey(why) {
  $("key-why").textContent = why;
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

$("key-open").addEventListener("click", () => openKey("Kept in this tab until it is closed."));
$("key-dialog").addEventListener("close", () => {
  const choice = $("key-dialog").returnValue;
  if (choice === "use" && $("key").value.trim()) sessionStorage.setItem(KEY, $("key").value.trim());
  if (choice === "forget") sessionStorage.removeItem(KEY);
  $("key").value = "";
  if (choice === "use" || choice === "forget") connect();
});

$("judgement").addEventListener("click", async (event) => {
  const { judgement } = event.target.dataset;
  const entry = current;
  if (!judgement) return;
  try {
    await keepJudgement(entry, judgement);
    entry.judgement = judgement.toUpperCase();
    if (entry === current) $("judgement-state").textContent = `kept as ${entry.judgement}`;
  } catch (error) {
    fail(error);
  }
});

const THEMES = { auto: "light dark", light: "light", dark: "dark" };

function setTheme(name) {
  document.documentElement.style.colorScheme = THEMES[name];
  $("theme").textContent = `Theme: ${name}`;
  localStorage.setItem("anomoe-theme", name);
}

$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf($("theme").textContent.slice(7)) + 1) % names.length]);
});

const TOGGLES = { m: ["toggle-map", "no-map"], b: ["toggle-blink", "blink"], r: ["toggle-boxes", "no-boxes"], z: ["toggle-zoom", "zoom"] };

function toggle(id, className) {
  const isPressed = $(id).getAttribute("aria-pressed") !== "true";
  $(id).setAttribute("aria-pressed", isPressed);
  $("frame").classList.toggle(className, className.startsWith("no-") !== isPressed);
  $("stage").tabIndex = $("frame").classList.contains("zoom") ? 0 : -1; // what scrolls is reached by keyboard
}

Object.values(TOGGLES).forEach(([id, className]) => $(id).addEventListener("click", () => toggle(id, className)));
$("opacity").addEventListener("input", () => $("frame").style.setProperty("--opacity", $("opacity").value / 100));

listen(document, "keydown", (event) => {
  const field = event.target.closest("input, select, dialog");
  const isTyped = field && (field.type !== "range" || event.key.startsWith("Arrow"));
  if (event.ctrlKey || event.metaKey || event.altKey || isTyped || !current) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (TOGGLES[event.key]) toggle(...TOGGLES[event.key]);
  else return;
  event.preventDefault();
});

setTheme(localStorage.getItem("anomoe-theme") in THEMES ? localStorage.getItem("anomoe-theme") : "auto");
connect();

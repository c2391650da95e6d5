// One answer on the page.

const WHY = {
  score: (answer) => `The score is above the threshold of “${answer.category}”.`,
  region: () => "A region of the map is above its threshold.",
  unknown_product: (answer) => `It looks like none of the products that the service knows (${distanceOf(answer)}).`,
  not_this_product: (answer) => `It does not look like “${answer.category}” (${distanceOf(answer)}).`,
};

const distanceOf = (answer) => `distance ${answer.distance.toFixed(2)}, limit ${answer.distance_limit.toFixed(2)}`;

function whyOf(answer) {
  if (answer.explanation) return answer.explanation;
  if (answer.reason) return WHY[answer.reason]?.(answer) ?? answer.reason;
  const recognised = answer.category_source === "recognised" ? `Recognised as “${answer.category}”. ` : "";
  return `${recognised}It looks as “${answer.category}” should.`;
}

function showVerdict(verdict, why) {
  $("verdict").dataset.tone = verdict.tone;
  $("verdict-icon").setAttribute("href", `#icon-${verdict.icon}`);
  $("verdict-word").textContent = verdict.word;
  $("verdict-why").textContent = why;
}

// The picture with map and boxes. A picture that the browser cannot show leaves the map alone.
async function showPicture(entry) {
  const { answer } = entry;
  $("invitation").hidden = true;
  $("frame").hidden = $("tools").hidden = false;
  const picture = $("picture");
  picture.alt = entry.name;
  picture.src = entry.url;
  await picture.decode().catch(() => {});
  const isShown = picture.naturalWidth > 0;
  picture.hidden = !isShown;
  $("frame").classList.toggle("map-only", !isShown);
  const map = answer.anomaly_map;
  const [width, height] = map ? [map.width, map.height] : [picture.naturalWidth, picture.naturalHeight];
  $("frame").style.setProperty("--ratio", width / height || 1);
  $("frame").style.setProperty("--width", `${width}px`);
  $("caption").textContent = `${entry.name}, ${width} × ${height}${isShown ? "" : " (a format that this browser does not show)"}`;
  $("map").hidden = !map;
  if (map) await drawMap($("map"), map);
  showRegions(answer.regions ?? [], width, height);
}

function showRegions(regions, width, height) {
  $("boxes").setAttribute("viewBox", `0 0 ${width} ${height}`);
  const boxes = regions.map((one) => shape("rect", { x: one.x, y: one.y, width: one.width, height: one.height }));
  $("boxes").replaceChildren(...boxes);
  $("regions-count").textContent = regions.length || "none";
  $("regions").replaceChildren(...regions.map((one, index) => {
    const text = `${one.width} × ${one.height} pixels at ${one.x}, ${one.y}`;
    const row = make("button", { type: "button" }, make("b", {}, one.level), make("span", {}, text), make("output", {}, one.peak.toFixed(2)));
    const light = (isOn) => () => boxes[index].classList.toggle("lit", isOn);
    [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]].forEach(([event, isOn]) => row.addEventListener(event, light(isOn)));
    row.addEventListener("click", () => boxes[index].scrollIntoView({ block: "center", inline: "center" }));
    return make("li", {}, row);
  }));
}

// Score, histogram, slider and levels; what moves with alpha, which is null at the default.
function showScore({ calibration, alpha: own }, answer, alpha) {
  const scores = calibration?.scores ?? [];
  const isKnown = answer.threshold !== null && answer.threshold !== undefined;
  showVerdict(verdictOf(answer), whyOf(answer));
  $("score").textContent = isKnown ? answer.score.toFixed(2) : "none";
  $("odds").textContent = isKnown ? oddsOf(answer, scores.length) : "No product, so no score and no threshold.";
  $("alpha-field").hidden = !scores.length;
  $("histogram").toggleAttribute("hidden", !scores.length);
  $("alpha-reset").hidden = alpha === null || !scores.length;
  $("alpha-note").textContent = alphaNote(scores, alpha !== own);
  if (scores.length) {
    const unit = calibration.threshold;
    const at = displayScore(answer.threshold, unit);
    const shown = displayScore(answer.raw_score, unit);
    const marks = [{ at, text: "threshold", kind: "threshold" }, { at: shown, text: "this picture", kind: "picture" }];
    drawHistogram($("histogram"), scores.map((score) => displayScore(score, unit)), marks, at);
    $("histogram").setAttribute("aria-label", `Scores of ${scores.length} good pictures; this one is ${answer.raw_score > answer.threshold ? "above" : "not above"} the threshold.`);
    $("alpha-text").textContent = percent(answer.alpha);
    $("alpha").setAttribute("aria-valuetext", percent(answer.alpha));
  }
  showLevels(answer);
}

function alphaNote(scores, isMoved) {
  if (!scores.length) return "";
  const least = `${scores.length} good pictures can promise ${percent(1 / (scores.length + 1))} at best.`;
  return isMoved ? `${least} Map and regions stay as they were drawn; the next pictures are asked with this value.` : least;
}

const CHECKS = { patch: "texture", component: "parts", global: "assembly" };

function showLevels(answer) {
  $("levels").replaceChildren(...Object.entries(answer.levels).map(([name, level]) => {
    const experts = answer.experts.filter((one) => one.level === name).map((one) => one.index).join(", ");
    const isOver = level.score > 0.5;
    return make("li", { className: isOver ? "over" : "" },
      make("b", {}, name), make("small", {}, CHECKS[name] ?? ""), make("output", {}, level.score.toFixed(2)), meter(level.score, isOver),
      make("small", {}, experts ? `expert ${experts}, weight ${percent(level.weight)}` : "no expert chosen"));
  }));
}

function showClasses(answer) {
  const best = answer.classes.find((one) => one.class_name === answer.best);
  const verdict = verdictOf(best);
  showVerdict(verdict, `As “${answer.best}” it has ${best.score.toFixed(2)}, the threshold is ${best.threshold.toFixed(2)}.`);
  $("classes").replaceChildren(...answer.classes.map((one) => make("li", { className: one.is_anomalous ? "over" : "" },
    make("b", {}, one.class_name), make("small", {}, one === best ? "fits best" : ""), make("output", {}, one.score.toFixed(2)), meter(one.score, one.is_anomalous))));
  $("classes-note").textContent = answer.calibrated ? "" : "Not calibrated: no good picture has fitted these thresholds, so that nothing is promised.";
}

function showTimings(timings) {
  const { total, ...stages } = timings;
  const rest = total - Object.values(stages).reduce((sum, ms) => sum + ms, 0);
  const parts = [...Object.entries(stages), ["rest", Math.max(rest, 0)]].filter(([, ms]) => ms > 0);
  $("total-ms").textContent = `${total.toFixed(0)} ms`;
  $("timings-bar").replaceChildren(...parts.map(([, ms], index) => {
    const part = make("i", { className: `stage-${index % 8}` });
    part.style.flexGrow = ms;
    return part;
  }));
  $("timings").replaceChildren(...parts.map(([name, ms], index) =>
    make("li", {}, make("i", { className: `stage-${index % 8}`, ariaHidden: "true" }), name, make("output", {}, `${ms.toFixed(1)} ms`))));
}

// Everything about an entry: {file, name, url, path, answer, alpha, calibration}. shown: its answer at the slider's alpha.
async function showEntry(entry, shown, alpha) {
  const isNames = Boolean(entry.answer.classes);
  $("welcome").hidden = true;
  $("result").hidden = false;
  $("score-card").hidden = $("levels-card").hidden = $("regions-card").hidden = isNames;
  $("classes-card").hidden = !isNames;
  if (isNames) showClasses(entry.answer);
  else showScore(entry, shown, alpha);
  showTimings(entry.answer.timings_ms);
  $("judgement").hidden = document.documentElement.dataset.feedback !== "on";
  $("judgement-state").textContent = entry.judgement ? `kept as ${entry.judgement}` : "";
  const address = new URL(entry.path, document.baseURI);
  $("command").textContent = `curl --data-binary @'${entry.name.replaceAll("'", "'\\''")}' -H 'Content-Type: ${entry.file.type || "application/octet-stream"}' \\\n  '${address}'`;
  $("json").textContent = JSON.stringify(withoutMap(entry.answer), null, 1);
  await showPicture(entry);
}

function showProblem(error) {
  const about = [error.status && `status ${error.status}`, error.requestId && `request ${error.requestId}`].filter(Boolean);
  $("problem").replaceChildren(make("strong", {}, error.title ?? "This page failed"), ` ${error.message} `, make("small", {}, about.join(", ")));
  $("problem").hidden = false;
}

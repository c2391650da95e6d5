// Many pictures at once: a few requests at a time, a table, a histogram, a file of the results.

const AT_ONCE = 4;
const QUOTED = /[",\n\r]/;

let batch = { isStopped: true };

// Judges files; open: what shows one of them. Earlier batches end.
async function judgeBatch(files, question, open) {
  batch.isStopped = true;
  const own = { isStopped: false, results: [], next: 0 };
  batch = own;
  $("batch").hidden = false;
  $("batch-stop").hidden = false;
  $("batch-save").hidden = true;
  $("rows").replaceChildren();
  $("batch").scrollIntoView({ block: "nearest" });
  showBatch(own, files.length);

  async function work() {
    while (own.next < files.length && !own.isStopped) {
      const index = own.next;
      own.next += 1;
      const file = files[index];
      const result = { index, file, name: file.webkitRelativePath || file.name };
      try {
        const { answer } = await judgePicture(file, question, "none");
        result.answer = answer.classes ? asOne(answer) : answer;
      } catch (error) {
        result.error = error;
        if (error.status === 401 || error.status === 403) own.isStopped = true;
      }
      if (batch !== own) return;
      own.results.push(result);
      addRow(result, () => open(file, question));
      showBatch(own, files.length);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (batch === own) finishBatch(own);
}

// The best class name of a zero-shot answer in the form of a product's.
function asOne(answer) {
  const best = answer.classes.find((one) => one.class_name === answer.best);
  return { category: answer.best, score: best.score, is_anomalous: best.is_anomalous, p_value: null };
}

function addRow({ index, name, answer, error }, open) {
  const verdict = error ? { word: "ERROR", icon: "undecided", tone: "undecided" } : verdictOf(answer);
  const number = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));
  const button = make("button", { type: "button", className: "link", onclick: open }, name);
  const row = make("tr", {},
    make("td", {}, button), make("td", {}, error ? `${error.title}: ${error.message}` : answer.category ?? ""),
    make("td", { className: `tone ${verdict.tone}` }, icon(verdict.icon), verdict.word),
    make("td", {}, number(answer?.score, 2)), make("td", {}, number(answer?.p_value, 4)));
  row.dataset.index = index;
  const later = [...$("rows").children].find((other) => Number(other.dataset.index) > index);
  $("rows").insertBefore(row, later ?? null);
}

function showBatch(own, total) {
  const known = own.results.filter((one) => one.answer);
  const normal = known.filter((one) => verdictOf(one.answer).tone === "normal").length;
  const failed = own.results.length - known.length;
  Object.assign($("batch-progress"), { max: total, value: own.results.length });
  $("batch-count").textContent = `${own.results.length} of ${total}: ${normal} normal, ${known.length - normal} anomalous${failed ? `, ${failed} failed` : ""}`;
  const scores = known.map((one) => one.answer.score ?? 1);
  drawHistogram($("batch-histogram"), scores, [{ at: 0.5, text: "threshold", kind: "threshold" }], 0.5, ["0", "1"]);
  $("batch-histogram").setAttribute("aria-label", `Scores of ${known.length} pictures, ${known.length - normal} of them anomalous.`);
}

function finishBatch(own) {
  own.isStopped = true;
  const quoted = (value) => (QUOTED.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = own.results.sort((one, other) => one.index - other.index).map(({ name, answer, error }) =>
    [name, answer?.category ?? "", error ? "ERROR" : verdictOf(answer).word, answer?.score ?? "", answer?.p_value ?? "", error?.message ?? ""]
      .map((value) => quoted(String(value))).join(","));
  const text = ["picture,product,verdict,score,p_value,error", ...lines, ""].join("\r\n");
  URL.revokeObjectURL($("batch-save").href);
  $("batch-save").href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  $("batch-save").hidden = false;
  $("batch-stop").hidden = true;
}

// Requests to the service: addresses are relative, so that they are right behind any prefix.

const KEY = "anomoe-key";
const MOST_TRIES = 8; // of what was refused because the service was full

class ServiceError extends Error {
  constructor(title, detail, status = 0, requestId = "") {
    super(detail);
    Object.assign(this, { title, status, requestId });
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// Answers, or throws a ServiceError; 429 and 503 are tried again when the service says.
async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { "X-API-Key": key } : {}) };
  for (let tries = 1; ; tries += 1) {
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch {
      throw new ServiceError("No answer", "The service cannot be reached, or the connection was lost.");
    }
    if (response.ok) return response.json();
    const retryAfter = Number(response.headers.get("Retry-After"));
    if ((response.status === 429 || response.status === 503) && retryAfter && tries < MOST_TRIES) {
      await pause(retryAfter);
      continue;
    }
    const told = await response.json().catch(() => ({}));
    const title = told.title ?? `The service answers ${response.status}`;
    throw new ServiceError(title, told.detail ?? response.statusText, response.status, told.request_id);
  }
}

// The verdict on one picture. question: {mode, category, names, alpha}.
async function judgePicture(file, question, map = "png") {
  const query = new URLSearchParams({ map });
  if (question.mode === "names") question.names.forEach((name) => query.append("class_names", name));
  else {
    if (question.category) query.set("category", question.category);
    if (question.alpha) query.set("alpha", question.alpha);
  }
  const path = `${question.mode === "names" ? "zero-shot" : "detect"}?${query}`;
  const type = file.type || "application/octet-stream";
  return { path, answer: await ask(path, { method: "POST", body: file, headers: { "Content-Type": type } }) };
}

const calibrations = new Map(); // by digest and product

// The calibration scores that an answer was judged with; null when the service has others by now.
async function calibrationOf(answer) {
  const name = `${answer.model.digest} ${answer.category}`;
  if (!answer.category) return null;
  if (!calibrations.has(name)) {
    const told = await ask(`categories/${encodeURIComponent(answer.category)}/calibration`);
    if (told.model.digest !== answer.model.digest) return null;
    calibrations.set(name, told);
  }
  return calibrations.get(name);
}

function keepJudgement(entry, judgement) {
  const form = new FormData();
  form.append("file", entry.file, entry.name);
  form.append("judgement", judgement);
  const category = entry.answer.category ?? entry.answer.best;
  if (category) form.append("category", category);
  form.append("answer", JSON.stringify(withoutMap(entry.answer)));
  return ask("feedback", { method: "POST", body: form });
}

const withoutMap = (answer) => ({ ...answer, anomaly_map: answer.anomaly_map && { ...answer.anomaly_map, data: "…" } });

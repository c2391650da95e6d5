// The decision of the service (split conformal prediction) once more, so that alpha can be tried without asking again.

const DISTANCE_POWER = 8; // a distance is worth a score that grows with this power

// The k-th smallest calibration score, k = ceil((n + 1)(1 - alpha)) clipped to n.
function conformalThreshold(scores, alpha) {
  const rank = Math.ceil((scores.length + 1) * (1 - alpha) - 1e-9);
  return scores[Math.min(Math.max(rank, 1), scores.length) - 1];
}

const effectiveAlpha = (scores, alpha) => Math.max(alpha, 1 / (scores.length + 1));

const displayScore = (raw, threshold) => (raw + threshold > 0 ? raw / (raw + threshold) : 0);

// A display score at one threshold as that at another.
const rescaled = (score, from, to) => (score * from) / (score * from + (1 - score) * to || 1);

// What the service would answer at another alpha: threshold, score, reason, levels. A region or a doubt that
// does not come from the score stays.
function judged(answer, scores, alpha) {
  const threshold = conformalThreshold(scores, alpha);
  const limit = answer.distance_limit * (threshold / answer.threshold) ** (1 / DISTANCE_POWER);
  const far = answer.category_source === "request" ? "not_this_product" : "unknown_product";
  const rest = answer.reason === "region" ? "region" : null;
  const reason = answer.distance > limit ? far : answer.raw_score > threshold ? "score" : rest;
  const levels = Object.entries(answer.levels).map(([name, level]) => [
    name, { ...level, score: rescaled(level.score, answer.threshold, threshold) },
  ]);
  return {
    ...answer, alpha: effectiveAlpha(scores, alpha), threshold, reason, is_anomalous: reason !== null,
    verdict: reason ? "anomalous" : answer.verdict === "undecided" ? "undecided" : "normal",
    explanation: null, distance_limit: limit,
    score: displayScore(answer.raw_score, threshold), levels: Object.fromEntries(levels),
  };
}

// The word, icon and tone of an answer. What is neither known to be normal nor undecided is an anomaly.
function verdictOf(answer) {
  if (answer.reason === "unknown_product") return { word: "UNKNOWN PRODUCT", icon: "stranger", tone: "stranger" };
  if (answer.reason === "not_this_product") return { word: "NOT THIS PRODUCT", icon: "stranger", tone: "stranger" };
  if (answer.verdict === "undecided") return { word: "UNDECIDED", icon: "undecided", tone: "undecided" };
  if (answer.is_anomalous === false) return { word: "NORMAL", icon: "normal", tone: "normal" };
  return { word: "ANOMALY", icon: "anomalous", tone: "anomalous" };
}

// How often a good picture is as odd, in words.
function oddsOf(answer, count) {
  const of1000 = answer.p_value * 1000;
  const number = of1000 < 1 ? of1000.toFixed(1) : Math.round(of1000);
  const product = `good “${answer.category}” pictures`;
  if (count && answer.p_value <= 1.0001 / (count + 1)) {
    return `None of the ${count} ${product} it was calibrated on looks this odd: of 1000 at most ${number}.`;
  }
  return `Of 1000 ${product} ${number} look at least this odd.`;
}

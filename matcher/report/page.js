"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const counts = JSON.parse(byId("counts").textContent);
  const lists = { found: byId("found"), missed: byId("missed") };
  const threshold = byId("threshold"), sort = byId("sort"), find = byId("find"), here = byId("here");
  const number = (text) => (text === "" ? -1 : Number(text));
  const cards = Array.from(document.querySelectorAll(".card"), (element) => {
    const d = element.dataset;
    return {
      element, p: number(d.p), query: d.query, reference: d.reference, words: (d.query + "\n" + d.reference).toLowerCase(),
      queryCovered: number(d.queryCovered), referenceCovered: number(d.referenceCovered),
      right: element.classList.contains("right"), wrong: element.classList.contains("wrong"), missed: element.classList.contains("missed"),
    };
  });
  const byIds = new Intl.Collator("en", { numeric: true }).compare;
  const byProbability = (a, b) => b.p - a.p || byIds(a.query, b.query) || byIds(a.reference, b.reference);
  const orders = {
    p: byProbability,
    query: (a, b) => byIds(a.query, b.query) || byProbability(a, b),
    queryCovered: (a, b) => b.queryCovered - a.queryCovered || byProbability(a, b),
    referenceCovered: (a, b) => b.referenceCovered - a.referenceCovered || byProbability(a, b),
  };
  const count = (n, one, many) => n.toLocaleString("en") + " " + (n === 1 ? one : many || one + "s");
  const percent = (p) => (100 * p).toLocaleString("en", { maximumSignificantDigits: p > 0.99 ? 4 : 3 }) + " %";
  let sorted = "p";
  cards.sort(byProbability);

  function place(limit) {
    const moved = cards.filter((card) => card.right && card.missed !== !(card.p >= limit));
    for (const card of moved) {
      card.missed = !card.missed;
      card.element.classList.toggle("missed", card.missed);
    }
    if (sorted !== sort.value) {
      sorted = sort.value;
      cards.sort(orders[sorted]);
      lists.found.append(...cards.filter((card) => !card.missed).map((card) => card.element));
      if (lists.missed) lists.missed.append(...cards.filter((card) => card.missed).map((card) => card.element));
    } else {
      for (const card of moved.reverse()) { // from the end, so that the next one is already in its place
        const next = cards.slice(cards.indexOf(card) + 1).find((other) => other.missed === card.missed);
        lists[card.missed ? "missed" : "found"].insertBefore(card.element, next ? next.element : null);
      }
    }
  }

  function show() {
    const step = Number(threshold.value), limit = counts.thresholds[step];
    const state = (document.querySelector("input[name=state]:checked") || { value: "all" }).value;
    const wanted = find.value.trim().toLowerCase(), shown = { found: 0, missed: 0 };
    place(limit);
    for (const card of cards) {
      const kind = card.missed ? "missed" : card.right ? "right" : card.wrong ? "wrong" : "";
      const visible = (card.missed || card.p >= limit) && (state === "all" || state === kind) && card.words.includes(wanted);
      card.element.hidden = !visible;
      shown[card.missed ? "missed" : "found"] += visible;
    }
    for (const name in shown) {
      if (!lists[name]) continue;
      byId(name + "-empty").hidden = shown[name] > 0;
      lists[name].parentElement.hidden = name === "missed" ? state === "right" || state === "wrong" : state === "missed";
    }
    tell(step, limit, shown);
  }

  function tell(step, limit, shown) {
    const all = counts.predictions[step], right = counts.right[step], wrong = counts.wrong[step], missed = counts.true_pairs - right;
    let text = "At or above the threshold: " + all.toLocaleString("en") + " of " + count(counts.predictions[0], "prediction");
    let seen = count(shown.found, "prediction");
    if (lists.missed) {
      text += ", " + right.toLocaleString("en") + " right, " + wrong.toLocaleString("en") + " wrong; " + count(missed, "true pair") + " missed";
      seen += " and " + count(shown.missed, "missed pair");
      byId("missed-threshold").textContent = percent(limit);
    }
    byId("count").textContent = text + ". Shown below: " + seen + ".";
    byId("threshold-text").textContent = percent(limit);
    threshold.setAttribute("aria-valuetext", percent(limit));
    if (here && right + wrong > 0 && counts.true_pairs > 0) {
      const d = here.dataset;
      here.setAttribute("cx", Number(d.x) + (right / counts.true_pairs) * d.w);
      here.setAttribute("cy", d.y - (right / (right + wrong)) * d.h);
    }
    if (here) here.toggleAttribute("hidden", !(right + wrong > 0));
  }

  let waiting = false;
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; show(); });
  }
  byId("controls").addEventListener("input", soon);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").hidden = false;
  show();
})();

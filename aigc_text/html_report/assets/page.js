// The blind sheet. Which side is whose is not in this page, so nothing here can tell.
(() => {
  "use strict";
  const at = (id) => document.getElementById(id);
  const sheet = JSON.parse(at("sheet-data").textContent);
  const verdicts = { 1: "a", 2: "b", 3: "same", ArrowLeft: "a", ArrowRight: "b", ArrowDown: "same" };
  const buttons = { a: at("choose-a"), b: at("choose-b"), same: at("choose-same") };
  const answers = new Map();
  let place = 0;

  // A page opened as a file may be denied its storage, and then even naming it raises an error.
  const slot = "aigc-text blind " + sheet.id;
  const remember = () => {
    try {
      localStorage.setItem(slot, JSON.stringify(result()));
      return true;
    } catch {
      return false;
    }
  };
  const recall = () => {
    try {
      const found = JSON.parse(localStorage.getItem(slot));
      for (const pair of sheet.pairs) {
        const verdict = found.answers[pair.id];
        if (Object.hasOwn(buttons, verdict)) answers.set(pair.id, verdict);
      }
      if (typeof found.rater === "string") at("rater").value = found.rater;
    } catch {
      answers.clear();
    }
  };

  const result = () => ({
    sheet: sheet.id,
    rater: at("rater").value.trim(),
    answers: Object.fromEntries(answers),
  });

  const show = () => {
    const pair = sheet.pairs[place];
    const total = sheet.pairs.length;
    at("pair-prompt").textContent = pair.prompt;
    at("pair-prompt-line").hidden = !pair.prompt;
    at("text-a").textContent = pair.a;
    at("text-b").textContent = pair.b;
    at("text-a").scrollTop = at("text-b").scrollTop = 0;
    at("progress").textContent =
      "Pair " + (place + 1) + " of " + total + ", " + answers.size + " answered" +
      (answers.size === total ? ": all done, export your answers" : "");
    at("progress-bar").style.width = (100 * answers.size) / total + "%";
    for (const [verdict, button] of Object.entries(buttons)) {
      button.setAttribute("aria-pressed", String(answers.get(pair.id) === verdict));
    }
    at("previous").disabled = place === 0;
    at("next").disabled = place === total - 1;
    at("export").disabled = answers.size === 0;
    at("answers").textContent = JSON.stringify(result(), null, 1);
  };

  const changed = () => {
    at("kept").textContent = remember()
      ? "Your answers are kept in this browser until you export them."
      : "This browser keeps nothing for this page: export before you close it.";
    show();
  };

  const choose = (verdict) => {
    answers.set(sheet.pairs[place].id, verdict);
    if (place < sheet.pairs.length - 1) place += 1;
    changed();
  };

  const move = (by) => {
    place = Math.min(Math.max(place + by, 0), sheet.pairs.length - 1);
    show();
  };

  const save = () => {
    const name = result().rater.replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 40);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(result(), null, 1) + "\n"], { type: "application/json" }));
    link.download = ["answers", name, sheet.id].filter(Boolean).join("-") + ".json";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  for (const [verdict, button] of Object.entries(buttons)) button.addEventListener("click", () => choose(verdict));
  at("previous").addEventListener("click", () => move(-1));
  at("next").addEventListener("click", () => move(1));
  at("export").addEventListener("click", save);
  at("rater").addEventListener("input", changed);
  document.addEventListener("keydown", (event) => {
    if (!Object.hasOwn(verdicts, event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.repeat || event.target.closest("input")) return;
    // Arrows scroll the page unless the reader is at the sheet; figures need to see it only.
    const box = at("sheet").getBoundingClientRect();
    const seen = box.top < innerHeight && box.bottom > 0;
    if (event.key.startsWith("Arrow") ? !at("sheet").contains(event.target) : !seen) return;
    event.preventDefault();
    choose(verdicts[event.key]);
  });

  recall();
  const open = sheet.pairs.findIndex((pair) => !answers.has(pair.id));
  place = open < 0 ? sheet.pairs.length - 1 : open;
  at("sheet").hidden = false;
  show();
})();

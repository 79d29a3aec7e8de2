// The page: shows the conversation, and asks the worker. Texts are shown as text only, never as HTML.

const $ = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_k", "repetition_penalty", "longest", "seed"];
// A small module with one instruction of SIMD, which the runtime needs.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

let worker;
let isReady = false;
let isBusy = false;
let asked = "";
let turns = []; // finished ones, {question, reply}
let shown; // the elements of the reply that is being written

try {
  const response = await fetch("settings.json");
  if (!response.ok) throw new Error(`settings.json: ${response.status}`);
  start(await response.json());
} catch (error) {
  fail(error.message);
}

function start(settings) {
  document.title = $("title").textContent = settings.title;
  $("model").href = `${settings.host}${settings.model}`;
  $("model").textContent = settings.model;
  $("temperature").value = settings.temperature;
  $("remember").checked = settings.remember;
  $("longest").max = settings.context;
  $("longest").value = Math.max(1, Math.floor(settings.context / 2));
  for (const text of settings.examples) {
    const button = $("examples").appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = text;
    button.onclick = () => {
      $("question").value = text;
      $("question").focus();
      ask();
    };
  }
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(Uint8Array.from(SIMD))) {
    return fail("This browser has no WebAssembly with SIMD, which the model needs. Please try a newer browser.");
  }
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => receive[data.type](data);
  worker.onerror = (event) => fail(explain(event.message ?? "the program of this page cannot be fetched"));
  worker.postMessage({ type: "load", settings });
}

const receive = {
  progress({ loaded, total }) {
    const [part, whole] = [loaded, total].map((bytes) => (bytes / 1e6).toFixed(1));
    $("loaded").textContent = `${part} of ${whole} MB`;
    $("progress").value = total ? loaded / total : 0;
  },
  ready() {
    isReady = true;
    $("loading").hidden = true;
    $("send").disabled = false;
    tell("Ready.");
  },
  refused({ text }) {
    setBusy(false);
    tell(text);
  },
  begun() {
    if ($("question").value === asked) $("question").value = "";
    add("div", "question", asked);
    shown = { reasoning: null, answer: null };
    tell("Writing …");
  },
  text({ text }) {
    show(text);
  },
  done({ text, ended, stopped, speed }) {
    show(text);
    setBusy(false);
    const { answer } = splitReply(text);
    if (answer) turns.push({ question: asked, reply: text });
    const where = answer ? "" : " before an answer";
    const limit = "it has the longest length that the settings, or the context, allow";
    if (stopped) tell("Stopped.");
    else if (!ended) tell(`The reply breaks off${where}: ${limit}.`);
    else tell(answer ? `Done, ${speed.toFixed(0)} tokens per second.` : "The model wrote no answer.");
  },
  error({ text }) {
    setBusy(false);
    if (isReady) tell(explain(text));
    else fail(explain(text));
  },
};

function ask() {
  if (!isReady || isBusy) return;
  asked = $("question").value;
  const sampling = {};
  for (const name of NUMBERS) {
    if ($(name).value === "" || !$(name).checkValidity()) {
      $(name).closest("details").open = true;
      return void $(name).reportValidity();
    }
    sampling[name] = Number($(name).value);
  }
  setBusy(true);
  worker.postMessage({ type: "ask", question: asked, earlier: $("remember").checked ? turns : [], sampling });
}

function setBusy(value) {
  isBusy = value;
  $("send").textContent = value ? "Stop" : "Send";
  $("clear").disabled = value;
  $("conversation").ariaBusy = String(value); // a screen reader hears the whole reply at its end
}

function show(text) {
  const { reasoning, answer } = splitReply(text);
  if (reasoning) {
    if (!shown.reasoning) {
      const details = add("details", "reasoning");
      details.open = true;
      details.appendChild(document.createElement("summary")).textContent = "Reasoning";
      shown.reasoning = details.appendChild(document.createElement("div"));
    }
    shown.reasoning.textContent = reasoning;
  }
  if (answer) {
    shown.answer ??= add("div", "answer");
    shown.answer.textContent = answer;
  }
}

// Reasoning and answer of a reply that may still grow; what is shown is never taken back.
function splitReply(text) {
  const [reasoningMark, answerMark] = ["Reasoning:\n", "A: "];
  const begun = text.trimStart();
  if (reasoningMark.startsWith(begun) || answerMark.startsWith(begun)) return { reasoning: "", answer: "" };
  if (begun.startsWith(answerMark)) return { reasoning: "", answer: begun.slice(answerMark.length) };
  if (!begun.startsWith(reasoningMark)) return { reasoning: "", answer: text };
  const [before, ...after] = begun.slice(reasoningMark.length).split("\n\nA: ");
  return { reasoning: before.replace(/(\n\nA:?)?\n*$/, ""), answer: after.join("\n\nA: ") };
}

function add(kind, name, text = "") {
  const element = $("conversation").appendChild(document.createElement(kind));
  element.className = name;
  element.textContent = text;
  $("status").scrollIntoView({ block: "nearest" });
  return element;
}

function tell(text) {
  $("notice").textContent = text;
}

function fail(text) {
  isReady = false;
  $("loading").hidden = true;
  $("send").disabled = true;
  tell(text);
}

function explain(text) {
  if (/memory|alloc|RangeError/i.test(text)) {
    return `There is too little free memory for the model. Please close other pages, or try another device. (${text})`;
  }
  if (/fetch|network|load/i.test(text)) {
    return `The model cannot be loaded. Please check the connection, and reload this page. (${text})`;
  }
  return `The model does not work in this browser: ${text}`;
}

$("form").onsubmit = (event) => {
  event.preventDefault();
  if (isBusy) worker.postMessage({ type: "stop" });
  else ask();
};
$("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
};
$("clear").onclick = () => {
  turns = [];
  $("conversation").replaceChildren();
  tell("Cleared.");
  $("question").focus();
};

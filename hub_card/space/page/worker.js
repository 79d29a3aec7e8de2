// The model, in a worker, so that the page stays responsive. Messages in: load, ask, stop; out: see post().

let settings, library, tokenizer, model, stopping;

self.onmessage = async ({ data }) => {
  try {
    if (data.type === "stop") stopping?.interrupt();
    if (data.type === "load") await load(data.settings);
    if (data.type === "ask") await answer(data);
  } catch (error) {
    post("error", { text: String(error?.message ?? error) });
  }
};

function post(type, values = {}) {
  self.postMessage({ type, ...values });
}

async function load(given) {
  settings = given;
  const [host, cdn] = [settings.host, settings.cdn].map((place) => new URL(place, self.location.href).href);
  library = await import(`${cdn}${settings.library}/dist/transformers.min.js`);
  const { env, AutoModelForCausalLM, AutoTokenizer } = library;
  env.allowLocalModels = false;
  env.remoteHost = host;
  // The option `revision` does not reach config and tokenizer.
  env.remotePathTemplate = `{model}/resolve/${settings.revision}/`;
  // The plain build: the default one, for graphics cards, is twice as large and slower here.
  const { versions, wasm } = env.backends.onnx;
  const build = `${cdn}onnxruntime-web@${versions.web}/dist/ort-wasm-simd-threaded`;
  wasm.wasmPaths = { mjs: `${build}.mjs`, wasm: `${build}.wasm` };
  const files = {};
  const progress_callback = ({ status, file, loaded, total }) => {
    if (status !== "progress") return;
    files[file] = { loaded, total };
    const sum = (name) => Object.values(files).reduce((bytes, each) => bytes + each[name], 0);
    post("progress", { loaded: sum("loaded"), total: sum("total") });
  };
  tokenizer = await AutoTokenizer.from_pretrained(settings.model, { progress_callback });
  model = await AutoModelForCausalLM.from_pretrained(settings.model, { dtype: "q8", device: "wasm", progress_callback });
  // Between two tokens the worker reads its messages, or Stop would wait for the end of the answer.
  const forward = model.forward.bind(model);
  model.forward = async (inputs) => {
    await nextTurn();
    return forward(inputs);
  };
  post("ready");
}

function nextTurn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0); // setTimeout would wait for 4 ms, as long as a token takes
  });
}

async function answer({ question, earlier, sampling }) {
  const prompt = buildPrompt(question, earlier, sampling.longest);
  if (typeof prompt === "string") return post("refused", { text: prompt });
  post("begun", { prompt });
  const { InterruptableStoppingCriteria, Tensor, random } = library;
  const size = [1, prompt.length];
  const tokens = [];
  let isPrompt = true;
  let shown = 0;
  const decode = () => tokenizer.decode(tokens, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  const streamer = {
    put([ids]) {
      if (!isPrompt) tokens.push(...ids.map(Number));
      isPrompt = false;
      if (tokens.length && performance.now() - shown > 50) {
        shown = performance.now();
        post("text", { text: decode() });
      }
    },
    end() {},
  };
  stopping = new InterruptableStoppingCriteria();
  random.seed(sampling.seed >= 0 ? sampling.seed : Date.now());
  const begun = performance.now();
  await model.generate({
    inputs: new Tensor("int64", BigInt64Array.from(prompt, BigInt), size),
    attention_mask: new Tensor("int64", new BigInt64Array(prompt.length).fill(1n), size),
    max_new_tokens: Math.min(sampling.longest, settings.context - prompt.length), // there are no positions beyond
    do_sample: sampling.temperature > 0,
    temperature: sampling.temperature || 1,
    top_k: sampling.top_k,
    repetition_penalty: sampling.repetition_penalty,
    streamer,
    stopping_criteria: [stopping],
  });
  const seconds = (performance.now() - begun) / 1000;
  const ended = tokens.at(-1) === tokenizer.eos_token_id;
  post("done", { text: decode(), tokens, ended, stopped: stopping.interrupted, speed: tokens.length / seconds });
}

// Ids of the question, behind as many earlier turns as leave room for the reply, in the form of the training rows.
// Where it cannot be asked, the reason.
function buildPrompt(question, earlier, longest) {
  const { context } = settings;
  question = clean(question);
  if (!question) return "Please write a question first.";
  // GPT-2 encodes a blank line at the end of a text as one token and inside a text as two.
  let ids = encode(`Q: ${question}\n\nA`).slice(0, -1);
  if (ids.length >= context) {
    const [asked, most] = [ids.length.toLocaleString("en"), context.toLocaleString("en")];
    return `This question has ${asked} tokens, and the model reads ${most} at most, question and answer together. Please shorten it.`;
  }
  const room = context - Math.min(longest, Math.floor(context / 2));
  for (const turn of [...earlier].reverse()) {
    const longer = [...encode(`Q: ${clean(turn.question)}\n\n${turn.reply}`), tokenizer.eos_token_id, ...ids];
    if (longer.length > room) break;
    ids = longer;
  }
  return ids;
}

function encode(text) {
  return tokenizer.encode(strip(text), { add_special_tokens: false });
}

function clean(question) {
  return strip(question).replaceAll("\r\n", "\n").trim();
}

// Without the text of the end-of-text token, which would become that token, nor one that is left where it stood.
function strip(text) {
  while (text.includes(tokenizer.eos_token)) text = text.replaceAll(tokenizer.eos_token, "");
  return text;
}

// usage: node --input-type=module - BASE_URL < openai_node.mjs      (where `npm install openai` was done)
// OpenAI's client for Node: one line of JSON per step, {step, value} or {step, error}, for a test to look at.
import OpenAI from "openai";

const [base] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base, apiKey: "none", maxRetries: 0, timeout: 60000 });
const model = "tandem-demo-qwen";
const weather = {
  name: "get_weather",
  description: "Get the current weather for a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const tools = [{ type: "function", function: weather }];
const say = (content) => ({ model, temperature: 0, max_tokens: 256, messages: [{ role: "user", content }] });
const ask = { ...say("What is the weather in Paris?"), tools };

const steps = {
  models: async () => (await client.models.list()).data.map((each) => each.id),
  plain: async () => (await client.chat.completions.create(say("Hello!"))).choices[0],
  streamed: async () => {
    let text = "", usage = null;
    const stream = await client.chat.completions.create({
      ...say("Hello!"), stream: true, stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return { text, usage };
  },
  tools: async () => (await client.chat.completions.create(ask)).choices[0],
  tools_streamed: async () => await client.chat.completions.stream(ask).finalMessage(),
  two_turns: async () => {
    const ran = [];
    const run = (given) => { ran.push(given); return "21 degrees"; };
    const runner = client.chat.completions.runTools({
      ...ask, stream: true, tools: [{ type: "function", function: { ...weather, parse: JSON.parse, function: run } }],
    });
    return { answer: await runner.finalContent(), ran };
  },
  choices: async () =>
    (await client.chat.completions.create({ ...say("Hello!"), n: 2, seed: 7, temperature: 1, logprobs: true })).choices,
  aborted: async () => {
    const stream = await client.chat.completions.create({ ...say("Once upon a time"), stream: true, ignore_eos: true, max_tokens: 4000 });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    return stream.controller.signal.aborted;
  },
  unknown_model: async () => await client.chat.completions.create({ ...ask, model: "nobody" }),
  bad_request: async () => await client.chat.completions.create({ ...ask, temperature: 9 }),
};

for (const [step, run] of Object.entries(steps)) {
  let line;
  try { line = { step, value: await run() }; }
  catch (e) { line = { step, error: { kind: e.constructor.name, status: e.status, code: e.code, param: e.param, text: String(e) } }; }
  console.log(JSON.stringify(line));
}

// Calls the server with the official npm client; fails on the first thing that is not as it should be.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of Japan?" }];
const greedy = { model, temperature: 0, max_tokens: 12 };

async function wholeChat() {
  const { data, response } = await client.chat.completions
    .create({ ...greedy, messages })
    .withResponse();
  assert.equal(data.object, "chat.completion");
  assert.match(data.choices[0].message.content, /Tokyo/);
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.equal(response.headers.get("x-muai-model"), model);
  assert.equal(data._request_id, response.headers.get("x-request-id"));
  return data.choices[0].message.content;
}

async function streamedChat(expected) {
  const stream = await client.chat.completions.create({
    ...greedy,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, expected);
  assert.ok(usage.completion_tokens >= 1);
}

async function leftStream() {
  const stream = await client.chat.completions.create({
    model,
    messages,
    stream: true,
    max_tokens: 2000,
    ignore_eos: true,
  });
  for await (const _ of stream) break;
}

async function refusedChats() {
  await assert.rejects(client.chat.completions.create({ ...greedy, messages, top_p: 2 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "top_p");
    assert.match(error.message, /top_p is 2/);
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(client.chat.completions.create({ model: "gpt-9", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
}

async function completions() {
  const prompt = ["Once upon a time", "The sky is"];
  const answer = await client.completions.create({ ...greedy, prompt, n: 2 });
  assert.deepEqual(
    answer.choices.map((choice) => choice.index),
    [0, 1, 2, 3],
  );
  assert.ok(answer.choices.every((choice) => choice.text.length > 0));
}

async function models() {
  const names = [];
  for await (const { id } of client.models.list()) names.push(id);
  assert.ok(names.includes(model));
}

const expected = await wholeChat();
await streamedChat(expected);
await leftStream();
await refusedChats();
await completions();
await models();
console.log("all as it should be");

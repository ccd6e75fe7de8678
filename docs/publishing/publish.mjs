// Publishes one update of one order: persistent, mandatory, confirmed. Then waits for what became of it.
//
//     npm install amqplib
//     AMQP_URL=amqp://localhost node publish.mjs USMF SO-2025-0145 '{"SalesStatus": "Delivered"}'

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import amqplib from "amqplib";

const EXCHANGE = process.env.EXCHANGE ?? "orderwright.updates";
// As the daemons are set: `order.key`, and those of it in `order.key_fold_case` or `order.key_guid`.
const KEY = ["dataAreaId", "SalesOrderNumber"];
const FOLD_CASE = new Set(["dataAreaId"]);
// Milliseconds before each further try at a message that the broker refused.
const WAITS = [100, 300, 1000];
// Seconds to wait for the outcome. 0 asks for none.
const OUTCOME_WITHIN = Number(process.env.OUTCOME_WITHIN ?? 30);

/** The canonical order key: equal for all updates of an order, or they would stand in different queues. */
function routingKey(key) {
  const part = (name) => {
    const text = FOLD_CASE.has(name) ? String(key[name]).toUpperCase() : String(key[name]);
    return text.replaceAll("%", "%25").replaceAll("/", "%2F");
  };
  return KEY.map(part).join("/");
}

/** Messages that came back, by their ids. The broker sends one back before it confirms it. */
const returned = new Set();

/** Resolves to the message's id once the broker has it for sure. Until then no later update of the order may go out. */
async function publish(channel, key, changes, replyTo) {
  const messageId = randomUUID();
  const options = {
    persistent: true,
    mandatory: true,
    contentType: "application/json",
    messageId,
    timestamp: Math.floor(Date.now() / 1000),
    replyTo,
    correlationId: messageId,
  };
  const body = Buffer.from(JSON.stringify({ key, changes }));
  const send = () =>
    new Promise((resolve, reject) => {
      channel.publish(EXCHANGE, routingKey(key), body, options, (nacked) => (nacked ? reject(nacked) : resolve()));
    });
  for (const wait of [...WAITS, undefined]) {
    try {
      await send();
      break;
    } catch {
      // Its queue is full, or has no leader: the same message once more, and nothing else of this order before it.
      if (wait === undefined) throw new Error("refused: the broker did not take it");
      await sleep(wait);
    }
  }
  // No queue takes it: the exchange is another one, or nothing is bound to it. Trying again is of no use.
  if (returned.delete(messageId)) throw new Error("returned: the broker has no queue for it");
  return messageId;
}

const values = process.argv.slice(2);
const changes = JSON.parse(values.pop());
const key = Object.fromEntries(KEY.map((name, index) => [name, values[index]]));
const connection = await amqplib.connect(process.env.AMQP_URL);
const channel = await connection.createConfirmChannel();
channel.on("return", (message) => returned.add(message.properties.messageId));

const outcomes = new Map();
let tell = () => {};
const replyTo = OUTCOME_WITHIN ? "amq.rabbitmq.reply-to" : undefined;
if (replyTo) {
  const told = (message) => {
    outcomes.set(message.properties.correlationId, message.content.toString());
    tell();
  };
  await channel.consume(replyTo, told, { noAck: true });
}
try {
  const messageId = await publish(channel, key, changes, replyTo);
  console.log("confirmed", messageId);
  if (replyTo) {
    const late = AbortSignal.timeout(OUTCOME_WITHIN * 1000);
    while (!outcomes.has(messageId) && !late.aborted) {
      await new Promise((resolve) => {
        tell = resolve;
        late.addEventListener("abort", resolve);
        if (outcomes.has(messageId)) resolve();
      });
    }
    // No notice is no bad news: it may be late, or lost, and the update is applied all the same.
    console.log("outcome", outcomes.get(messageId) ?? "unknown");
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
await connection.close();

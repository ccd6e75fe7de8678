"""Publishes one update of one order: persistent, mandatory, confirmed. Then waits for what became of it.

    pip install pika
    AMQP_URL=amqp://localhost python publish.py USMF SO-2025-0145 '{"SalesStatus": "Delivered"}'
"""

import json
import os
import sys
import time
import uuid

import pika
from pika.exceptions import NackError, UnroutableError

EXCHANGE = os.environ.get("EXCHANGE", "orderwright.updates")
# As the daemons are set: `order.key`, and those of it in `order.key_fold_case` or `order.key_guid`.
KEY = ["dataAreaId", "SalesOrderNumber"]
FOLD_CASE = {"dataAreaId"}
# Seconds before each further try at a message that the broker refused.
WAITS = [0.1, 0.3, 1]
# Seconds to wait for the outcome. 0 asks for none.
OUTCOME_WITHIN = float(os.environ.get("OUTCOME_WITHIN", "30"))


def routing_key(key):
    """The canonical order key: equal for all updates of an order, or they would stand in different queues."""

    def part(name):
        text = str(key[name])
        text = text.upper() if name in FOLD_CASE else text
        return text.replace("%", "%25").replace("/", "%2F")

    return "/".join(part(name) for name in KEY)


def publish(channel, key, changes, reply_to=None):
    """Returns the message's id once the broker has it for sure. Until then no later update of the order may go out."""
    message_id = str(uuid.uuid4())
    properties = pika.BasicProperties(
        delivery_mode=pika.DeliveryMode.Persistent,
        content_type="application/json",
        message_id=message_id,
        timestamp=int(time.time()),
        reply_to=reply_to,
        correlation_id=message_id,
    )
    body = json.dumps({"key": key, "changes": changes})
    for wait in [*WAITS, None]:
        try:
            channel.basic_publish(EXCHANGE, routing_key(key), body, properties, mandatory=True)
            return message_id
        except NackError:
            # Its queue is full, or has no leader: the same message once more, and nothing else of this order before it.
            if wait is None:
                raise
            time.sleep(wait)


def main():
    key = dict(zip(KEY, sys.argv[1:]))
    changes = json.loads(sys.argv[-1])
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.confirm_delivery()

    outcomes = {}

    def told(_channel, _method, properties, body):
        outcomes[properties.correlation_id] = body.decode()

    reply_to = "amq.rabbitmq.reply-to" if OUTCOME_WITHIN else None
    if reply_to:
        channel.basic_consume(reply_to, told, auto_ack=True)
    try:
        message_id = publish(channel, key, changes, reply_to)
    except UnroutableError:
        # No queue takes it: the exchange is another one, or nothing is bound to it. Trying again is of no use.
        sys.exit("returned: the broker has no queue for it")
    except NackError:
        sys.exit("refused: the broker did not take it")
    print("confirmed", message_id, flush=True)

    deadline = time.monotonic() + OUTCOME_WITHIN
    while message_id not in outcomes and time.monotonic() < deadline:
        connection.process_data_events(time_limit=deadline - time.monotonic())
    if OUTCOME_WITHIN:
        # No notice is no bad news: it may be late, or lost, and the update is applied all the same.
        print("outcome", outcomes.get(message_id, "unknown"))
    connection.close()


if __name__ == "__main__":
    main()

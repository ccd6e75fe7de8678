// Publishes one update of one order: persistent, mandatory, confirmed. Then waits for what became of it.
//
//     javac -cp amqp-client.jar Publish.java
//     AMQP_URL=amqp://localhost java -cp .:amqp-client.jar:slf4j-api.jar Publish USMF SO-2025-0145 '{"SalesStatus": "Delivered"}'

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

public class Publish {
    static final String EXCHANGE = System.getenv().getOrDefault("EXCHANGE", "orderwright.updates");
    // As the daemons are set: `order.key`, and those of it in `order.key_fold_case` or `order.key_guid`.
    static final List<String> KEY = List.of("dataAreaId", "SalesOrderNumber");
    static final Set<String> FOLD_CASE = Set.of("dataAreaId");
    // Milliseconds before each further try at a message that the broker refused.
    static final long[] WAITS = {100, 300, 1000};
    static final long CONFIRM_WITHIN = 30_000;
    // Seconds to wait for the outcome. 0 asks for none.
    static final long OUTCOME_WITHIN = Long.parseLong(System.getenv().getOrDefault("OUTCOME_WITHIN", "30"));

    /** Messages that came back, by their ids. The broker sends one back before it confirms it. */
    static final Set<String> RETURNED = ConcurrentHashMap.newKeySet();

    /** The canonical order key: equal for all updates of an order, or they would stand in different queues. */
    static String routingKey(List<String> values) {
        List<String> parts = new ArrayList<>();
        for (int i = 0; i < KEY.size(); i++) {
            String text = values.get(i);
            text = FOLD_CASE.contains(KEY.get(i)) ? text.toUpperCase(Locale.ROOT) : text;
            parts.add(text.replace("%", "%25").replace("/", "%2F"));
        }
        return String.join("/", parts);
    }

    /** The body. Key values hold no control characters, so these two need an escape alone. */
    static byte[] body(List<String> values, String changes) {
        List<String> members = new ArrayList<>();
        for (int i = 0; i < KEY.size(); i++) {
            String text = values.get(i).replace("\\", "\\\\").replace("\"", "\\\"");
            members.add("\"" + KEY.get(i) + "\":\"" + text + "\"");
        }
        String json = "{\"key\":{" + String.join(",", members) + "},\"changes\":" + changes + "}";
        return json.getBytes(StandardCharsets.UTF_8);
    }

    /** Returns the message's id once the broker has it for sure. Until then no later update of the order may go out. */
    static String publish(Channel channel, List<String> values, String changes, String replyTo) throws Exception {
        String messageId = UUID.randomUUID().toString();
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
                .deliveryMode(2)
                .contentType("application/json")
                .messageId(messageId)
                .timestamp(new Date())
                .replyTo(replyTo)
                .correlationId(messageId)
                .build();
        for (int attempt = 0; ; attempt++) {
            channel.basicPublish(EXCHANGE, routingKey(values), true, properties, body(values, changes));
            if (channel.waitForConfirms(CONFIRM_WITHIN)) {
                break;
            }
            // Its queue is full, or has no leader: the same message once more, and nothing else of this order before it.
            if (attempt == WAITS.length) {
                throw new IllegalStateException("refused: the broker did not take it");
            }
            Thread.sleep(WAITS[attempt]);
        }
        // No queue takes it: the exchange is another one, or nothing is bound to it. Trying again is of no use.
        if (RETURNED.remove(messageId)) {
            throw new IllegalStateException("returned: the broker has no queue for it");
        }
        return messageId;
    }

    public static void main(String[] arguments) throws Exception {
        List<String> values = Arrays.asList(arguments).subList(0, KEY.size());
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP_URL"));
        try (Connection connection = factory.newConnection()) {
            Channel channel = connection.createChannel();
            channel.confirmSelect();
            channel.addReturnListener((code, text, exchange, key, properties, body) -> RETURNED.add(properties.getMessageId()));

            Map<String, CompletableFuture<String>> outcomes = new ConcurrentHashMap<>();
            String replyTo = OUTCOME_WITHIN > 0 ? "amq.rabbitmq.reply-to" : null;
            if (replyTo != null) {
                channel.basicConsume(replyTo, true, (tag, message) -> outcomes
                        .computeIfAbsent(message.getProperties().getCorrelationId(), id -> new CompletableFuture<>())
                        .complete(new String(message.getBody(), StandardCharsets.UTF_8)), tag -> { });
            }
            String messageId = publish(channel, values, arguments[KEY.size()], replyTo);
            System.out.println("confirmed " + messageId);
            if (replyTo != null) {
                String outcome = "unknown";
                try {
                    outcome = outcomes.computeIfAbsent(messageId, id -> new CompletableFuture<>())
                            .get(OUTCOME_WITHIN, TimeUnit.SECONDS);
                } catch (TimeoutException late) {
                    // No notice is no bad news: it may be late, or lost, and the update is applied all the same.
                }
                System.out.println("outcome " + outcome);
            }
        } catch (IllegalStateException failed) {
            System.err.println(failed.getMessage());
            System.exit(1);
        }
    }
}

// Publishes one update of one order: persistent, mandatory, confirmed. Then waits for what became of it.
//
// For RabbitMQ.Client 7 and .NET 8. Not tested, and never compiled by this project.
//
//     dotnet add package RabbitMQ.Client
//     AMQP_URL=amqp://localhost dotnet run USMF SO-2025-0145 '{"SalesStatus": "Delivered"}'

using System.Collections.Concurrent;
using System.Text;
using System.Text.Json.Nodes;
using RabbitMQ.Client;
using RabbitMQ.Client.Events;
using RabbitMQ.Client.Exceptions;

string exchange = Environment.GetEnvironmentVariable("EXCHANGE") ?? "orderwright.updates";
// As the daemons are set: `order.key`, and those of it in `order.key_fold_case` or `order.key_guid`.
string[] keyNames = ["dataAreaId", "SalesOrderNumber"];
HashSet<string> foldCase = ["dataAreaId"];
// Milliseconds before each further try at a message that the broker refused.
int?[] waits = [100, 300, 1000, null];
// Seconds to wait for the outcome. 0 asks for none.
double outcomeWithin = double.Parse(Environment.GetEnvironmentVariable("OUTCOME_WITHIN") ?? "30");

// The canonical order key: equal for all updates of an order, or they would stand in different queues.
string RoutingKey(JsonObject key) => string.Join("/", keyNames.Select(name =>
{
    string text = key[name]!.ToString();
    text = foldCase.Contains(name) ? text.ToUpperInvariant() : text;
    return text.Replace("%", "%25").Replace("/", "%2F");
}));

// Returns the message's id once the broker has it for sure. Until then no later update of the order may go out.
async Task<string> Publish(IChannel channel, JsonObject key, JsonNode changes, string? replyTo)
{
    string messageId = Guid.NewGuid().ToString();
    var properties = new BasicProperties
    {
        DeliveryMode = DeliveryModes.Persistent,
        ContentType = "application/json",
        MessageId = messageId,
        Timestamp = new AmqpTimestamp(DateTimeOffset.UtcNow.ToUnixTimeSeconds()),
        ReplyTo = replyTo,
        CorrelationId = messageId,
    };
    string routingKey = RoutingKey(key);
    byte[] body = Encoding.UTF8.GetBytes(new JsonObject { ["key"] = key, ["changes"] = changes }.ToJsonString());
    foreach (int? wait in waits)
    {
        try
        {
            // With tracking, this ends when the broker has confirmed, and throws for a return and for a nack.
            await channel.BasicPublishAsync(exchange, routingKey, mandatory: true, basicProperties: properties, body: body);
            return messageId;
        }
        catch (PublishException refused) when (!refused.IsReturn)
        {
            // Its queue is full, or has no leader: the same message once more, and nothing else of this order before it.
            if (wait is null) throw;
            await Task.Delay(wait.Value);
        }
    }
    throw new InvalidOperationException("the last wait is null");
}

var factory = new ConnectionFactory { Uri = new Uri(Environment.GetEnvironmentVariable("AMQP_URL")!) };
await using var connection = await factory.CreateConnectionAsync();
await using var channel = await connection.CreateChannelAsync(new CreateChannelOptions(
    publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true));

var outcomes = new ConcurrentDictionary<string, TaskCompletionSource<string>>();
TaskCompletionSource<string> Outcome(string id) => outcomes.GetOrAdd(id, _ => new());
string? replyTo = outcomeWithin > 0 ? "amq.rabbitmq.reply-to" : null;
if (replyTo is not null)
{
    var consumer = new AsyncEventingBasicConsumer(channel);
    consumer.ReceivedAsync += (_, message) =>
    {
        Outcome(message.BasicProperties.CorrelationId!).TrySetResult(Encoding.UTF8.GetString(message.Body.Span));
        return Task.CompletedTask;
    };
    await channel.BasicConsumeAsync(replyTo, autoAck: true, consumer);
}

var key = new JsonObject();
for (int i = 0; i < keyNames.Length; i++) key[keyNames[i]] = args[i];
try
{
    string messageId = await Publish(channel, key, JsonNode.Parse(args[keyNames.Length])!, replyTo);
    Console.WriteLine($"confirmed {messageId}");
    if (replyTo is not null)
    {
        var told = Outcome(messageId).Task;
        await Task.WhenAny(told, Task.Delay(TimeSpan.FromSeconds(outcomeWithin)));
        // No notice is no bad news: it may be late, or lost, and the update is applied all the same.
        Console.WriteLine($"outcome {(told.IsCompleted ? told.Result : "unknown")}");
    }
    return 0;
}
catch (PublishException failed)
{
    // A return: no queue takes it, the exchange is another one, or nothing is bound to it. Trying again is of no use.
    Console.Error.WriteLine(failed.IsReturn
        ? "returned: the broker has no queue for it"
        : "refused: the broker did not take it");
    return 1;
}

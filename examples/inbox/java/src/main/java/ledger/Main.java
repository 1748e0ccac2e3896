package ledger;

import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads events and has each of them booked once, in order, whatever crashes. See README.md. */
public final class Main {
  /** At zero, somebody has asked the program to stop. */
  static final CountDownLatch STOPPING = new CountDownLatch(1);

  public static void main(String[] arguments) {
    try {
      run();
    } catch (Stop stop) {
      System.err.println(stop.getMessage());
      System.exit(1);
    } catch (InterruptedException stopped) {
      // As it was asked to.
    } catch (SQLException error) {
      System.err.println("cannot begin: " + error.getMessage() + "\nfix: check DSN, and whether PostgreSQL is up");
      System.exit(1);
    }
  }

  private static void run() throws SQLException, InterruptedException {
    var group = setting("GROUP", "set it to the group id, which is also this consumer's name in the inbox");
    var topics = List.of(setting("TOPICS", "set it to the topics, separated by commas").split(","));
    var brokers = setting("BROKERS", "set it to the addresses of Kafka, such as kafka-1:9092,kafka-2:9092");
    var inbox = new Inbox(setting("DSN", "set it to the database, such as jdbc:postgresql://db/ledger?user=ledger"), group);
    inbox.connect();
    var session = Integer.parseInt(System.getenv().getOrDefault("SESSION_TIMEOUT_MS", "10000"));
    var consumer = new KafkaConsumer<>(Map.<String, Object>of(
        "bootstrap.servers", brokers,
        "group.id", group,
        "enable.auto.commit", false,
        "auto.offset.reset", "earliest", // also in partitions that a topic gets later
        "isolation.level", "read_committed",
        "max.poll.records", 100,
        "session.timeout.ms", session,
        "heartbeat.interval.ms", session / 4),
        new ByteArrayDeserializer(), new ByteArrayDeserializer());
    var ended = new CountDownLatch(1);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(ended)));
    try (consumer) {
      consumer.subscribe(topics);
      while (STOPPING.getCount() > 0) {
        for (var record : consumer.poll(Duration.ofSeconds(1))) {
          inbox.inTheEnd(record);
        }
        commit(consumer);
      }
    } finally {
      ended.countDown();
    }
  }

  /** Tells Kafka how far it is. If that fails, what follows comes again, and the inbox knows it. */
  private static void commit(KafkaConsumer<?, ?> consumer) {
    try {
      consumer.commitSync();
    } catch (CommitFailedException | RetriableException error) {
      System.err.println("Kafka: commit: " + error.getMessage());
    }
  }

  private static void stop(CountDownLatch ended) {
    STOPPING.countDown();
    try {
      ended.await(10, TimeUnit.SECONDS);
    } catch (InterruptedException ignored) {
      // The process ends anyway.
    }
  }

  private static String setting(String name, String remedy) {
    var value = System.getenv().getOrDefault(name, "").strip();
    if (value.isEmpty()) {
      throw new Stop(name + " is empty", remedy);
    }
    return value;
  }
}

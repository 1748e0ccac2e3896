package ledger;

import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.KafkaMessageFactory;
import io.cloudevents.rw.CloudEventRWException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.postgresql.util.PSQLException;

/** Handles each event in one transaction with the note that it is handled. */
final class Inbox {
  /** Of an event, before the program gives up. */
  private static final int ATTEMPTS = Integer.parseInt(System.getenv().getOrDefault("ATTEMPTS", "10"));

  private static final String TAKE = "select transaction, parked, fresh[1] from inbox.take(?::integer, ?::text, array[?]::integer[],"
      + " ?::bytea, array[?]::text[], array[?]::text[], array[null]::text[], array[null]::text[], true)";

  private final String dsn;
  private final String group;
  private Connection connection;
  private int number;

  Inbox(String dsn, String group) {
    this.dsn = dsn;
    this.group = group;
  }

  /** Connects, unless there is a connection. */
  void connect() throws SQLException {
    if (connection != null && !connection.isClosed()) {
      return;
    }
    var fresh = DriverManager.getConnection(dsn);
    try (var register = fresh.prepareStatement("select inbox.register(?, ?)")) {
      register.setString(1, group);
      register.setString(2, group);
      var row = register.executeQuery();
      row.next();
      number = row.getInt(1);
    } catch (SQLException error) {
      fresh.close();
      refuseSetup(error);
      throw error;
    }
    fresh.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
    fresh.setAutoCommit(false);
    connection = fresh;
  }

  /** Handles an event in place, however often that takes: the next one has to wait for it. */
  void inTheEnd(ConsumerRecord<byte[], byte[]> record) throws InterruptedException {
    var event = decode(record);
    for (int failures = 0, pauses = 1; ; pauses++) {
      Exception problem;
      try {
        var handled = once(record, event);
        System.out.println((handled ? "handled " : "repeat ") + place(record) + " " + event.getId());
        return;
      } catch (Stop stop) {
        throw stop;
      } catch (Exception error) {
        problem = error;
        rollback();
        refuseSetup(error);
        if (!isOutage(error) && ++failures == ATTEMPTS) {
          throw new Stop(place(record) + ", event " + event.getId() + ": cannot be handled: " + brief(error),
              "correct the handler or the data and start again: nothing after this event has been handled");
        }
      }
      var pause = (long) (ThreadLocalRandom.current().nextDouble(0.5, 1) * Math.min(30_000, 100 << Math.min(pauses, 10)));
      System.err.println(place(record) + ": " + brief(problem) + "; again in " + pause + " ms");
      if (Main.STOPPING.await(pause, TimeUnit.MILLISECONDS)) {
        throw new InterruptedException();
      }
    }
  }

  /** Handles an event, and reports whether that had not been done before. */
  private boolean once(ConsumerRecord<byte[], byte[]> record, CloudEvent event) throws Exception {
    connect();
    try (var take = connection.prepareStatement(TAKE); var seal = connection.prepareStatement("select inbox.seal(?)")) {
      take.setInt(1, number);
      take.setString(2, record.topic());
      take.setInt(3, record.partition());
      take.setBytes(4, record.key());
      take.setString(5, event.getSource().toString());
      take.setString(6, event.getId());
      var taken = take.executeQuery();
      taken.next();
      if (taken.getBoolean("parked")) {
        rollback();
        throw new Stop("the key of " + place(record) + " is parked", "release it with the program that has parked it");
      }
      var fresh = taken.getBoolean(3);
      if (fresh) {
        Handler.handle(connection, event);
        seal.setString(1, taken.getString("transaction"));
        seal.execute();
      }
      connection.commit();
      return fresh;
    }
  }

  private void rollback() {
    try {
      if (connection != null) {
        connection.rollback();
      }
    } catch (SQLException error) {
      connection = null; // it is lost, and its transaction with it
    }
  }

  /** Returns the CloudEvent in a record, whatever its mode. */
  private static CloudEvent decode(ConsumerRecord<byte[], byte[]> record) {
    try {
      return KafkaMessageFactory.createReader(record).toEvent();
    } catch (CloudEventRWException | IllegalStateException | IllegalArgumentException | NullPointerException error) {
      throw new Stop(place(record) + " is no CloudEvent: " + error.getMessage(), "correct its producer; to pass over the record,"
          + " stop the group and set its offset to " + (record.offset() + 1) + " (kafka-consumer-groups --reset-offsets)");
    }
  }

  /** Stops where trying again is of no use. */
  private static void refuseSetup(Exception error) {
    var state = stateOf(error);
    if (state.equals("3F000") || state.equals("42883") || state.equals("42P01") && error.getMessage().contains("inbox.")) {
      throw new Stop("the inbox is missing: " + brief(error), "run consume/schema.sql in this database: psql -f schema.sql");
    }
    if (state.startsWith("ZI")) {
      var said = ((PSQLException) error).getServerErrorMessage();
      throw new Stop(said.getMessage(), said.getHint());
    }
  }

  /** Reports whether the database is away, or two transactions met: not the event's fault. */
  private static boolean isOutage(Exception error) {
    return stateOf(error).matches("(08|40|53|57|58).*");
  }

  private static String stateOf(Exception error) {
    return error instanceof SQLException sql && sql.getSQLState() != null ? sql.getSQLState() : "";
  }

  /** What went wrong, without PostgreSQL's detail, which shows values of the row. */
  private static String brief(Exception error) {
    if (error instanceof PSQLException sql && sql.getServerErrorMessage() != null) {
      return sql.getServerErrorMessage().getMessage();
    }
    return error.getClass().getSimpleName() + ": " + error.getMessage();
  }

  private static String place(ConsumerRecord<?, ?> record) {
    return record.topic() + "-" + record.partition() + "@" + record.offset();
  }
}

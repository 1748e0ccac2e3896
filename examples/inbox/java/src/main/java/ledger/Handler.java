package ledger;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.CloudEvent;
import java.io.IOException;
import java.sql.Connection;
import java.sql.SQLException;

/** What this service does with an event. It is your part: all of it in this transaction. */
final class Handler {
  private static final ObjectMapper JSON = new ObjectMapper();

  static void handle(Connection connection, CloudEvent event) throws SQLException, IOException {
    var booking = JSON.readTree(event.getData().toBytes());
    var account = booking.required("account").textValue();
    var amount = booking.required("amount").longValue();
    try (var balance = connection.prepareStatement("insert into account (name, balance) values (?, ?)"
        + " on conflict (name) do update set balance = account.balance + excluded.balance")) {
      balance.setString(1, account);
      balance.setLong(2, amount);
      balance.executeUpdate();
    }
    try (var entry = connection.prepareStatement("insert into entry (account, amount, source, event) values (?, ?, ?, ?)")) {
      entry.setString(1, account);
      entry.setLong(2, amount);
      entry.setString(3, event.getSource().toString());
      entry.setString(4, event.getId());
      entry.executeUpdate();
    }
  }
}

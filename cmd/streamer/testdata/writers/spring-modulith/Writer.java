package shop;

import java.net.URI;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.stereotype.Component;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.event.TransactionalEventListener;
import org.springframework.transaction.support.TransactionTemplate;

/** Makes the table of Spring Modulith and lets its registry write to it. */
@SpringBootApplication
public class Writer {

  public record OrderPlaced(String orderId, double total) {}

  @Component
  static class Mailer {
    @TransactionalEventListener
    void on(OrderPlaced event) {}
  }

  public static void main(String[] arguments) {
    var dsn = URI.create(arguments[0]);
    var url = "jdbc:postgresql://%s:%d%s?sslmode=disable".formatted(dsn.getHost(), dsn.getPort(), dsn.getPath());
    try (var context = SpringApplication.run(Writer.class,
        "--spring.datasource.url=" + url,
        "--spring.datasource.username=" + dsn.getUserInfo(),
        "--spring.modulith.events.jdbc.schema-initialization.enabled=true",
        "--spring.main.banner-mode=off", "--logging.level.root=warn")) {
      if (arguments[1].equals("write")) {
        new TransactionTemplate(context.getBean(PlatformTransactionManager.class))
            .executeWithoutResult(status -> context.publishEvent(new OrderPlaced("order-42", 12.5)));
      }
    }
  }
}

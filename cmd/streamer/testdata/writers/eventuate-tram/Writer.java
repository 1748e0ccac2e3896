package shop;

import io.eventuate.tram.events.common.DomainEvent;
import io.eventuate.tram.events.publisher.DomainEventPublisher;
import io.eventuate.tram.spring.events.publisher.TramEventsPublisherConfiguration;
import io.eventuate.tram.spring.messaging.producer.jdbc.TramMessageProducerJdbcConfiguration;
import java.net.URI;
import java.util.List;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;

/** Lets Eventuate Tram write to its table. */
@Configuration
@EnableAutoConfiguration
@Import({TramEventsPublisherConfiguration.class, TramMessageProducerJdbcConfiguration.class})
public class Writer {

  public static class OrderPlaced implements DomainEvent {
    public double total = 12.5;
  }

  public static void main(String[] arguments) {
    var dsn = URI.create(arguments[0]);
    var url = "jdbc:postgresql://%s:%d%s?sslmode=disable".formatted(dsn.getHost(), dsn.getPort(), dsn.getPath());
    try (var context = SpringApplication.run(Writer.class,
        "--spring.datasource.url=" + url,
        "--spring.datasource.username=" + dsn.getUserInfo(),
        "--spring.datasource.driver-class-name=org.postgresql.Driver",
        "--spring.main.banner-mode=off", "--logging.level.root=warn")) {
      new TransactionTemplate(context.getBean(PlatformTransactionManager.class)).executeWithoutResult(status ->
          context.getBean(DomainEventPublisher.class).publish("com.example.Order", "42", List.of(new OrderPlaced())));
    }
  }
}

package consumer

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
)

// Decode turns a Kafka record into a CloudEvent, whatever its mode. The error
// names the record if it is not a valid CloudEvent.
//
// In binary mode all extensions are strings, because a Kafka header has no type.
func Decode(record *sarama.ConsumerMessage) (event.Event, error) {
	message := kafka_sarama.NewMessageFromConsumerMessage(record)
	decoded, err := binding.ToEvent(context.Background(), message)
	if err != nil {
		return event.Event{}, fmt.Errorf("decode record %s: %w", place(record), err)
	}
	// In binary mode the SDK adds the record's place. This is not part of the
	// event: the event would not be the same in another topic.
	for _, name := range []string{"kafkatopic", "kafkapartition", "kafkaoffset"} {
		decoded.SetExtension(name, nil)
	}
	if err := decoded.Validate(); err != nil {
		return event.Event{}, fmt.Errorf("validate record %s: %w", place(record), err)
	}
	return *decoded, nil
}

// place says where a record is, in the notation of Kafka's own tools.
func place(record *sarama.ConsumerMessage) string {
	return fmt.Sprintf("%s-%d@%d", record.Topic, record.Partition, record.Offset)
}

package kafka

import (
	"fmt"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/internal/failure"
)

// CheckCollision returns an error that wraps sarama.ErrInvalidTopic if Kafka can
// never have a missing topic of this name, because the name differs from that
// of an existing topic only in '.' and '_'. It sees only topics that the
// streamer may describe.
func (c *Client) CheckCollision(topic string) error {
	existing, err := c.Topics("")
	if err != nil {
		return err
	}
	for _, other := range existing {
		if Collide(topic, other) {
			return CollisionError(topic, other)
		}
	}
	return nil
}

// CollisionError says that Kafka cannot have a topic because it has another. It
// wraps sarama.ErrInvalidTopic, which is what Kafka answers.
func CollisionError(topic, other string) error {
	return failure.Advise(&collision{topic, other}, "correct the row's aggregate type, or the configuration key that names the topic")
}

type collision struct{ topic, other string }

func (c *collision) Error() string {
	return fmt.Sprintf("topic %q cannot exist: its name differs from that of topic %q only in '.' and '_'", c.topic, c.other)
}

func (*collision) Unwrap() error { return sarama.ErrInvalidTopic }

// Collide reports whether two different names differ only in '.' and '_', which
// Kafka's metrics cannot tell apart. Kafka creates no topic whose name collides
// with that of another.
func Collide(a, b string) bool {
	if a == b || len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && (!collides(a[i]) || !collides(b[i])) {
			return false
		}
	}
	return true
}

func collides(c byte) bool { return c == '.' || c == '_' }

package doctor

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

// waitingTopics are the topics to which waiting rows go.
type waitingTopics map[string]times

// times are the commit times of the first and the last of a topic's waiting rows.
type times struct{ oldest, youngest time.Time }

func (w waitingTopics) add(line router.Rendering) {
	t, known := w[line.Topic]
	if !known || line.Timestamp.Before(t.oldest) {
		t.oldest = line.Timestamp
	}
	if !known || line.Timestamp.After(t.youngest) {
		t.youngest = line.Timestamp
	}
	w[line.Topic] = t
}

// timesOf checks whether the topics of waiting rows take records with the times
// that the rows would have now.
func (d *doctor) timesOf(client *kafka.Client, what string, topics waitingTopics) {
	now, youth := time.Now(), router.Youth(client.Remembers())
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		limits := kafka.TimeLimitsOf(client, topic)
		for _, committed := range []time.Time{topics[topic].oldest, topics[topic].youngest} {
			age := min(now.Sub(committed), youth)
			if limit, refuses := limits.Refuses(age); refuses {
				d.say(Failed, what, fmt.Sprintf("%s of topic %q refuses the time that a row committed at %s would have in Kafka: "+
					"it stops the stream", limit, topic, committed.Format(time.RFC3339)), limit.Remedy(topic))
				break
			}
		}
	}
}

// timeSettings warns of an output topic that refuses events after a short
// outage.
func (d *doctor) timeSettings(client *kafka.Client, topic string, say func(v Verdict, remedy, format string, arguments ...any)) {
	youth := router.Youth(client.Remembers())
	// A batch may have to wait for its broker, too.
	if limit, refuses := kafka.TimeLimitsOf(client, topic).Refuses(2 * youth); refuses {
		say(Warned, limit.Remedy(topic), "%s: after an outage the topic may refuse the events that waited, "+
			"because their records are up to %s old, and older if Kafka keeps them waiting", limit, console.Age(youth))
	}
}

package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/internal/pipeline"
	"github.com/outboxstream/streamer/router/kafka"
)

// readBackAge is how long a streamer may be down and still find in Kafka what
// it published after its last checkpoint.
const readBackAge = 24 * time.Hour

// recordOverhead is the approximate size of the headers of an event and its
// batch, in bytes.
const recordOverhead = 512

// topicState checks an existing topic: whether it survives the loss of a
// broker, whether the streamer may use it, and whether it accepts what the
// streamer sends.
func (d *doctor) topicState(client *kafka.Client, topic string, written bool) {
	what := "topic " + topic
	about, err := client.Describe(topic)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	well := true
	say := func(v Verdict, remedy, format string, arguments ...any) {
		well = false
		d.say(v, what, fmt.Sprintf(format, arguments...), remedy)
	}
	if len(about.Missing) > 0 {
		say(Failed, "grant the ACLs that `streamer setup --print` prints", "the streamer's principal may not %s",
			strings.Join(about.Missing, " and "))
	}
	if about.Leaderless > 0 {
		say(Failed, "bring back the brokers that have replicas of these partitions",
			"%d of %d partitions have no leader: nothing can be written to them", about.Leaderless, about.Partitions)
	}
	inSync, inSyncKnown := settingOf(client, topic, "min.insync.replicas")
	switch {
	case inSyncKnown && int64(about.InSync) < inSync && about.Leaderless == 0:
		say(Failed, "bring back the brokers that have replicas of the partition", "a partition has %d replicas in sync, "+
			"fewer than min.insync.replicas = %d: it accepts no records", about.InSync, inSync)
	case about.Replicas == 1:
		say(Warned, "use a replication factor of 3 with min.insync.replicas=2",
			"replication factor 1: acknowledged records are lost with the broker's disk")
	case inSyncKnown && inSync == 1:
		say(Warned, "set min.insync.replicas=2", "min.insync.replicas is 1: acknowledged records are lost if the only replica in sync fails")
	case inSyncKnown && int64(about.Replicas) == inSync:
		say(Warned, "lower min.insync.replicas or add a replica",
			"min.insync.replicas equals the replication factor (%d): without one of the brokers, the topic accepts no records", inSync)
	}
	if written {
		d.outputSettings(client, topic, say)
		d.timeSettings(client, topic, say)
	}
	if well {
		d.say(Fine, what, fmt.Sprintf("%s, %s, %s", console.Counted(about.Partitions, "partition"),
			console.Counted(about.Replicas, "replica"), rights(about)), "")
	}
}

func rights(about kafka.TopicDescription) string {
	if !about.Known {
		return "permissions not known"
	}
	return "may be read and written"
}

// outputSettings checks what a topic accepts and how long it keeps events.
func (d *doctor) outputSettings(client *kafka.Client, topic string, say func(v Verdict, remedy, format string, arguments ...any)) {
	largest, known := settingOf(client, topic, "max.message.bytes")
	if known && largest < int64(d.cfg.Kafka.MaxBatchBytes) {
		say(Warned, fmt.Sprintf("raise the topic's max.message.bytes, or lower kafka.max_batch_bytes to %d", largest),
			"max.message.bytes = %d is less than kafka.max_batch_bytes (%s): batches are rejected and cut in half",
			largest, d.cfg.Kafka.MaxBatchBytes)
	}
	if known && d.largest+recordOverhead > largest {
		say(Warned, fmt.Sprintf("raise the topic's max.message.bytes to %d or more; "+
			"with poison.policy: dead-letter, such rows do not stop the stream", 2*(d.largest+recordOverhead)),
			"max.message.bytes = %d, and the table holds a payload of %d bytes: "+
				"a row that does not compress well enough cannot be published", largest, d.largest)
	}
	retention, known := settingOf(client, topic, "retention.ms")
	if known && retention >= 0 && retention < readBackAge.Milliseconds() && d.cfg.Kafka.Resume != string(pipeline.ResumeAtLeastOnce) {
		say(Warned, "set retention.ms to a day or more", "retention.ms = %d: "+
			"after a longer outage a start cannot read back what was published last, and repeats it", retention)
	}
}

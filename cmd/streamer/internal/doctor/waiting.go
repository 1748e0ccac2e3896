package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/preview"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/predecessor"
	"github.com/outboxstream/streamer/replication"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

const (
	// waitingLimit is how many of the waiting rows the doctor looks at.
	waitingLimit = 100
	// waitingPatience is how long a server may take to show the rows. The
	// server reads its WAL from the beginning of the slot.
	waitingPatience = 10 * time.Second
)

// waiting checks, while no streamer reads the slot, whether one of the next
// rows stops the stream.
func (d *doctor) waiting(ctx context.Context) {
	if d.slot == nil || d.slot.InUse() || d.failures > 0 {
		return // nothing that a start would read
	}
	ctx, cancel := context.WithTimeout(ctx, waitingPatience)
	defer cancel()
	const what = "waiting rows"
	control, _, err := site.ConnectPostgres(ctx, d.cfg)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	defer control.Close()
	client, err := site.ConnectKafka(ctx, d.cfg)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	defer client.Close()
	err = d.readWaiting(ctx, what, control, client)
	if err == nil && d.first {
		err = d.others(ctx, client)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		d.say(Fine, what, fmt.Sprintf("not checked: the server takes longer than %s to show them", waitingPatience), "")
	case err != nil:
		d.outcome(err, what, "")
	}
}

// others looks for waiting rows that another program has published, as the first
// start does.
func (d *doctor) others(ctx context.Context, client *kafka.Client) error {
	control, _, err := site.ConnectPostgres(ctx, d.cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	o := predecessor.Outbox{
		Control: control, Server: *d.server, Mappings: site.LocatedMappings(d.cfg, d.tables, *d.server), Rules: site.Rules(d.cfg), Kafka: client,
	}
	if d.cfg.Snapshot.Mode == config.SnapshotInitial {
		o.Table, o.Query = &d.tables[0], site.SnapshotQuery(d.cfg)
	}
	found, err := predecessor.Find(ctx, o)
	const what = "other publisher"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return err
	case err != nil:
		d.say(Warned, what, "not found out whether another program has published what waits in the slot: "+failure.Describe(err),
			"let this user read the topics; if there was another publisher, see "+predecessor.Guide)
	case found != nil:
		d.outcome(found.Refusal(d.cfg.Postgres.Slot), what, "")
	}
	return nil
}

// readWaiting reads the next rows and says what is wrong with them, or with the
// topics to which they go.
func (d *doctor) readWaiting(ctx context.Context, what string, control *replication.Control, client *kafka.Client) error {
	routes, err := site.NewRouter(d.cfg, d.database)
	if err != nil {
		return err
	}
	seen, difficult := waitingTopics{}, documents{}
	w := preview.Rows{
		Mappings: site.LocatedMappings(d.cfg, d.tables, *d.server),
		Routes:   routes, Limit: waitingLimit, Partitions: preview.NewTopics(client, d.cfg.Kafka.Topics.Create).Partitions,
	}
	w.Poison = func(line preview.Poison) error {
		if line.At.Commit >= d.saved {
			d.poison(what, line)
		}
		return nil
	}
	w.Event = func(line router.Rendering) error {
		seen.add(line)
		difficult.read(line)
		return nil
	}
	before := len(d.found)
	if err := w.Read(ctx, control, *d.server); err != nil && !errors.Is(err, replication.ErrSlotActive) {
		return err
	}
	d.topicsOf(ctx, client, what, seen)
	d.timesOf(client, what, seen)
	d.documents(what, difficult)
	if len(d.found) == before {
		d.say(Fine, what, fmt.Sprintf("%d checked, no problems", w.Shown), "")
	}
	return nil
}

// poison reports a row that cannot be published.
func (d *doctor) poison(what string, line preview.Poison) {
	if d.cfg.HasDeadLetters() {
		d.say(Warned, what, fmt.Sprintf("row %q at %s cannot be published and becomes a dead letter, "+
			"or stops the stream if its route says so: %s", line.ID, line.Position, line.Poison),
			"see the row later with `streamer dead-letters list`")
		return
	}
	d.say(Failed, what, fmt.Sprintf("row %q at %s stops the stream: %s", line.ID, line.Position, line.Poison),
		"to get past the row, run `streamer setup --set poison.policy=dead-letter`, "+
			"then `streamer run --set poison.policy=dead-letter`; deleting it from the table does not help")
}

// topicsOf makes sure that the topics of rows exist, unless the streamer may
// create them.
func (d *doctor) topicsOf(ctx context.Context, client *kafka.Client, what string, topics waitingTopics) {
	if d.cfg.Kafka.Topics.Create || len(topics) == 0 {
		return
	}
	var unknown []string
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		switch found, err := client.HasTopic(topic); {
		case err != nil:
			d.outcome(fmt.Errorf("topic %q: %w", topic, err), what, "")
		case !found:
			unknown = append(unknown, topic)
		}
	}
	existing, err := client.Exist(ctx, unknown...)
	if err != nil {
		d.outcome(err, what, "")
		return
	}
	for _, topic := range unknown {
		if !slices.Contains(existing, topic) {
			d.say(Failed, what, fmt.Sprintf("a row goes to topic %q, which does not exist, "+
				"and kafka.topics.create is false: it stops the stream", topic), "run `streamer setup --topic "+topic+"`")
		}
	}
}

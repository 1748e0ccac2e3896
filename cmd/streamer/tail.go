package main

import (
	"context"
	"errors"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router"
	"github.com/outboxstream/streamer/router/kafka"
)

type tailCommand struct {
	Topics []string `arg:"" optional:"" name:"topic" help:"Topics to follow. Default: all topics that the configuration can route to."`
	From   string   `default:"end" placeholder:"beginning|end|TIME|OFFSET" help:"Where to begin: a time (2026-11-21T14:30:00Z), a duration before now (90m), an offset, beginning, or end."`
	Key    *string  `help:"Only records with this key."`
	Type   *string  `help:"Only CloudEvents of this type."`
	Limit  uint     `placeholder:"N" help:"Stop after this number of records; 0 follows until stopped."`
}

// Help is shown by streamer tail --help.
func (tailCommand) Help() string {
	return `Follows the CloudEvents in Kafka. Each record is one line of JSON with the event and its
topic, partition, offset, timestamp and key. Records that are not CloudEvents are shown
with the reason, headers and value in base64 under "not_a_cloudevent". Topics that are
created later are followed too, unless topics are named.

Examples:
  streamer tail
  streamer tail outbox.event.order --from beginning --key 42 --limit 1 | jq .event.data`
}

// Run is the command.
func (command tailCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	options, err := command.options(loaded.Config)
	if err != nil {
		return failure.Misconfigure(err)
	}
	client, err := site.ConnectKafka(ctx, loaded.Config)
	if err != nil {
		return err
	}
	defer client.Close()
	shown := uint(0)
	err = router.Tail(ctx, client, options, func(r router.Rendering) error {
		if !command.wants(r) {
			return nil
		}
		if err := std.Line(r); err != nil {
			return err
		}
		if shown++; shown == command.Limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("limit reached")

func (command tailCommand) wants(r router.Rendering) bool {
	if command.Key != nil && (r.Key == nil || *r.Key != *command.Key) {
		return false
	}
	return command.Type == nil || r.Event != nil && r.Type == *command.Type
}

func (command tailCommand) options(cfg config.Config) (kafka.TailOptions, error) {
	from, err := console.ParsePosition("--from", command.From, time.Now(), console.Beginning, console.End, console.AtTime, console.AtOffset)
	if err != nil {
		return kafka.TailOptions{}, err
	}
	o := kafka.TailOptions{Topics: command.Topics, From: kafka.From{Beginning: from.Kind == console.Beginning, Time: from.Time}}
	if from.Kind == console.AtOffset {
		o.From.Offset = &from.Offset
	}
	if len(o.Topics) > 0 {
		return o, nil
	}
	known, prefixes, err := site.KnownTopics(cfg, "")
	o.Match = func(topic string) bool {
		if cfg.Checkpoint.Store == config.StoreKafka && topic == cfg.Checkpoint.Kafka.Topic {
			return false
		}
		return kafka.IsAmong(topic, known, prefixes)
	}
	return o, err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router"
)

type tailCommand struct {
	Topics []string `arg:"" optional:"" name:"topic" help:"Topics to follow. Default: all that the configuration can lead to."`
	From   string   `default:"end" placeholder:"beginning|end|TIME|OFFSET" help:"Where to begin: beginning, end, a time (2006-01-02T15:04:05Z, or 10m for ten minutes ago) or an offset."`
	Key    *string  `help:"Only records with this key."`
	Type   *string  `help:"Only CloudEvents of this type."`
	Limit  uint     `placeholder:"N" help:"End after this number of records; 0 follows until stopped."`
}

// Help is shown by streamer tail --help.
func (tailCommand) Help() string {
	return `Follows the CloudEvents in Kafka: each record as one line of JSON with the event and its
topic, partition, offset, timestamp and key. Records that are no CloudEvents are shown
with the reason, headers and value in base64 under "not_a_cloudevent". Topics that are
created later are followed as well, unless topics are named.

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
	err = client.Tail(ctx, options, func(r router.Rendering) error {
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

func (command tailCommand) options(cfg config.Config) (router.TailOptions, error) {
	from, err := parseFrom(command.From, time.Now())
	if err != nil {
		return router.TailOptions{}, err
	}
	o := router.TailOptions{Topics: command.Topics, From: from}
	if len(o.Topics) > 0 {
		return o, nil
	}
	known, prefixes, err := site.KnownTopics(cfg, "")
	o.Match = func(topic string) bool {
		if cfg.Checkpoint.Store == config.StoreKafka && topic == cfg.Checkpoint.Kafka.Topic {
			return false
		}
		return slices.Contains(known, topic) || slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(topic, prefix) })
	}
	return o, err
}

// parseFrom reads a place in the log. Numbers are offsets.
func parseFrom(text string, now time.Time) (router.From, error) {
	switch text {
	case "beginning":
		return router.From{Beginning: true}, nil
	case "end":
		return router.From{}, nil
	}
	if offset, err := strconv.ParseInt(text, 10, 64); err == nil && offset >= 0 {
		return router.From{Offset: &offset}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return router.From{Time: now.Add(-ago)}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return router.From{Time: at}, nil
	}
	return router.From{}, fmt.Errorf("--from %s: write beginning, end, an offset, a time such as 2006-01-02T15:04:05Z, or a duration such as 10m", text)
}

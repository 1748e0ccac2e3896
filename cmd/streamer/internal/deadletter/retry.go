package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/decoder"
	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/router"
)

type retryCommand struct {
	resolving
	Timeout time.Duration `default:"60s" help:"How long Kafka may take for each dead letter."`
}

// Help is shown by streamer dead-letters retry --help.
func (retryCommand) Help() string {
	return `Turns the rows into events under the current configuration, and publishes them to their
own topics. The events have the key, event ID, sequence, time and bytes that they would
have had, and the header streamer-replay. A row that still cannot be published stays a
dead letter, and so do later ones of the same aggregate ID. The exit code is then 3.

The events come after those of the same aggregate ID that were published since. Whether
consumers can handle that is your decision, so the command asks. A streamer may run
meanwhile. If the command is killed after publishing an event and before recording that,
the next retry repeats this one event, with the same event ID.

Examples:
  streamer dead-letters retry 0:17
  streamer dead-letters retry --all --class too_large --yes`
}

// Run is the command.
func (command retryCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	box, err := openLetters(ctx, load, std)
	if err != nil {
		return err
	}
	defer box.close()
	server, streams, err := identifyStreams(ctx, box.cfg)
	if err != nil {
		return err
	}
	chosen, err := box.choose(command.choice(), streams)
	if err != nil || len(chosen) == 0 {
		return box.nothing(err)
	}
	routes, err := box.routes(server.Database)
	if err != nil {
		return err
	}
	r := &retrial{letterBox: box, command: command, routes: routes, streams: streams, stuck: map[string]bool{}}
	fit, err := r.examine(ctx, chosen)
	if err != nil {
		return err
	}
	if len(fit) > 0 {
		if err := r.publish(ctx, server.Database, fit); err != nil {
			return err
		}
	}
	if r.kept > 0 {
		return failure.Refuse(failure.Advise(
			fmt.Errorf("%s of %d not retried, see above", console.Counted(r.kept, "dead letter"), len(chosen)),
			"correct the cause and try again, or drop the dead letters with `streamer dead-letters drop`",
		))
	}
	return nil
}

// routes returns the routes of the current configuration. They never lead to
// the dead letter topic, whatever the current policy is.
func (box *letterBox) routes(database string) (*router.Router, error) {
	r := site.Rules(box.cfg)
	r.Database, r.DeadLetterTopic = database, box.topic
	return router.NewRouter(r)
}

// writer returns a writer with its own producer ID and its own connection.
func (box *letterBox) writer(ctx context.Context, database string) (*router.Writer, error) {
	if database == "" {
		database = site.UnknownDatabase
	}
	routes, err := box.routes(database)
	if err != nil {
		return nil, err
	}
	client, err := site.ConnectKafka(ctx, box.cfg)
	if err != nil {
		return nil, err
	}
	w, err := router.NewWriter(ctx, client, site.PipelineConfig(box.cfg, slog.New(slog.DiscardHandler), nil).Producer, routes)
	if err != nil {
		client.Close()
	}
	return w, err
}

// retrial publishes dead letters.
type retrial struct {
	*letterBox
	command retryCommand
	routes  *router.Router
	streams []string
	stuck   map[string]bool // keys with an earlier dead letter that stays one
	kept    int             // number of letters that stay dead letters
}

// examine returns the letters that are no longer poison. Whether the broker
// accepts them shows only later.
func (r *retrial) examine(ctx context.Context, chosen []router.Letter) (fit []router.Letter, err error) {
	for _, l := range chosen {
		if !slices.Contains(r.streams, l.StreamID) {
			return nil, failure.Refuse(failure.Advise(
				fmt.Errorf(
					"dead letter %s is of stream %s, which is not that of slot %q in this database",
					letterID(l), console.Printable(l.StreamID), r.cfg.Postgres.Slot,
				),
				"use the configuration of the streamer that it comes from",
			))
		}
		opened, revived, err := r.revive(ctx, l)
		switch {
		case r.stuck[string(opened.Key)]:
			r.keep(l, opened.Key, errBehind)
		case isPoison(err):
			r.keep(l, opened.Key, err)
		case err != nil:
			return nil, err
		default:
			fmt.Fprintf(r.std.Out, "%s  event %q at %s → topic %q\n", letterID(l), console.Printable(l.EventID), l.Position, revived.Topic)
			fit = append(fit, l)
		}
	}
	return fit, nil
}

var errBehind = errors.New("an earlier dead letter of the same aggregate ID stays one, and would come after this one")

// keep leaves a row among the dead letters, and with it later rows of its key.
func (r *retrial) keep(l router.Letter, key []byte, why error) {
	r.kept++
	if len(key) > 0 {
		r.stuck[string(key)] = true
	}
	fmt.Fprintf(r.std.Out, "%s  not retried: %s\n", letterID(l), router.Reason(why))
}

// revive makes the event as it would be published now.
func (r *retrial) revive(ctx context.Context, l router.Letter) (router.DeadLetter, router.Revival, error) {
	opened, _, err := l.Open(ctx, r.client)
	if err != nil {
		return opened, router.Revival{}, err
	}
	revived, err := r.routes.Revive(decoder.New(site.Mappings(r.cfg)...), &opened)
	return opened, revived, err
}

func (r *retrial) publish(ctx context.Context, database string, fit []router.Letter) error {
	question := console.Counted(len(fit), "dead letter") +
		" will be published after later events of the same aggregate ID, out of order."
	if err := r.command.confirm(r.std, question); err != nil {
		return err
	}
	writer, err := r.writer(ctx, database)
	if err != nil {
		return err
	}
	defer writer.Close()
	for _, l := range fit {
		if err := r.publishOne(ctx, writer, l); err != nil {
			return err
		}
	}
	return nil
}

// publishOne writes the resolution only after the event is acknowledged.
func (r *retrial) publishOne(ctx context.Context, w *router.Writer, l router.Letter) error {
	opened, revived, err := r.revive(ctx, l)
	if err != nil {
		return err
	}
	if r.stuck[string(opened.Key)] {
		r.keep(l, opened.Key, errBehind)
		return nil
	}
	timed, cancel := context.WithTimeout(ctx, r.command.Timeout)
	defer cancel()
	partition, err := w.Publish(timed, revived)
	if isPoison(err) {
		r.keep(l, opened.Key, err)
		return nil
	}
	switch {
	case err == nil:
	case timed.Err() != nil:
		return fmt.Errorf("retry dead letter %s: the outcome is not known: %w", letterID(l), err)
	default:
		return fmt.Errorf("retry dead letter %s: %w", letterID(l), err)
	}
	if err := r.resolve(ctx, w, l, opened.Key, r.command.resolution(router.Retried), r.command.Timeout); err != nil {
		return fmt.Errorf("event %q is published, and another retry would publish it again: %w", l.EventID, err)
	}
	fmt.Fprintf(r.std.Out, "retried  %s → topic %q partition %d\n", letterID(l), revived.Topic, partition)
	return nil
}

func isPoison(err error) bool {
	_, row := errors.AsType[*decoder.PoisonError](err)
	_, event := errors.AsType[*router.PoisonError](err)
	return row || event
}

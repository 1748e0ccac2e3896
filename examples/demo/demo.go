package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/outboxstream/streamer/examples/shop"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/internal/testserver"
)

// demo is one performance and what it runs on.
type demo struct {
	options
	screen   *screen
	folder   *testserver.Folder // the streamer's binary, configuration and log
	postgres *pgtest.Server
	kafka    broker
	topics   topics
	dsn      string // of the shop's database
	ledger   shop.Ledger
	http     string // address of the streamer's endpoint
}

// steps is the number of steps that show announces.
const steps = 6

// show is the whole performance: it sets the stage, plays, and clears up.
func show(ctx context.Context, o options, s *screen) error {
	d := &demo{options: o, screen: s}
	s.title("An outbox in PostgreSQL becomes CloudEvents in Kafka")
	err := d.perform(ctx)
	if err := errors.Join(err, d.close()); err != nil {
		return err
	}
	s.farewell()
	return nil
}

func (d *demo) perform(ctx context.Context) (err error) {
	if d.folder, err = testserver.NewFolder("", "demo"); err != nil {
		return err
	}
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"PostgreSQL", d.startPostgres},
		{"Kafka", d.startKafka},
		{"The streamer", d.build},
		{"Set up", d.setUp},
		{"Shop, streamer and consumer side by side", d.play},
		{"Audit", d.audit},
	} {
		d.screen.step(step.title)
		if err := d.screen.keepCompany(func() error { return step.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// errCleanUp is wrapped by an error when something is left over.
var errCleanUp = errors.New("clean up")

// close ends the servers and removes everything.
func (d *demo) close() error {
	var problems []error
	if d.kafka.close != nil {
		problems = append(problems, d.kafka.close())
	}
	if d.postgres != nil {
		problems = append(problems, d.postgres.Close())
	}
	if d.folder != nil {
		problems = append(problems, d.folder.Remove())
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("%w: %w", errCleanUp, err)
	}
	return nil
}

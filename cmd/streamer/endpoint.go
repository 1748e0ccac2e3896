package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/page"
	"github.com/outboxstream/streamer/internal/config"
	"github.com/outboxstream/streamer/internal/ops"
	"github.com/outboxstream/streamer/internal/pipeline"
)

// openEndpoint serves health, metrics and the status page at http.listen, if
// that is set, until the returned function is called. That is after the last
// event: the page also shows how a streamer stops.
func openEndpoint(
	ctx context.Context, cfg config.Config, log *slog.Logger, metrics *ops.Metrics, p *pipeline.Pipeline, journal *ops.Journal,
) (closeIt func(), err error) {
	if cfg.HTTP.Listen == "" {
		return func() {}, nil
	}
	shown := page.New(aboutPage(cfg), page.Sources{
		Status: p.Status, Lag: p.Lag, Company: p.Company, Figures: metrics.Figures, Entries: journal.Entries,
	})
	var handler http.Handler
	if cfg.HTTP.Page {
		handler = shown.Handler()
	}
	server, err := ops.Listen(cfg.HTTP.Listen, cfg.HTTP.Pprof, metrics, p.Status, handler)
	if err != nil {
		return nil, err
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	if cfg.HTTP.Page {
		running.Go(func() { shown.Run(watching) })
	}
	running.Go(func() {
		if err := server.Serve(); err != nil {
			log.Error("HTTP endpoint failed", "err", err)
		}
	})
	return func() {
		stopWatching() // ends what viewers wait for, which closing would wait for
		server.Close()
		running.Wait()
	}, nil
}

// aboutPage is what the status page says about the configuration.
func aboutPage(cfg config.Config) page.About {
	about := page.About{
		Version: console.Version(), Slot: cfg.Postgres.Slot, Topic: cfg.Kafka.Topic, Instance: fmt.Sprintf("process %d", os.Getpid()),
	}
	if host, err := os.Hostname(); err == nil {
		about.Instance += " on " + host
	}
	if cfg.Shard.Count > 1 {
		about.Shard = fmt.Sprintf("%d of %d", cfg.Shard.Index, cfg.Shard.Count)
	}
	for _, o := range cfg.Tables() {
		if o.Poison == config.PoisonDeadLetter {
			about.DeadLetters = true
		}
	}
	return about
}
